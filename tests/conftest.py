"""What all tests share: time decides none of them, and where it matters, nor does chance."""

from __future__ import annotations

from hypothesis import settings

# Two processes share the tests, on machines that others share as well: an example that is slow for
# once says nothing.
settings.register_profile("ingest", deadline=None)
# What a change is judged by must say the same twice. Who runs the tests without it looks further.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
# What counts as covered must not be met by luck alone, so a tenth of the examples has to do.
settings.register_profile("few", settings.get_profile("repeatable"), max_examples=10)
settings.load_profile("ingest")
