"""What all tests share: time decides none of them."""

from __future__ import annotations

from hypothesis import settings

# Two processes share the tests, on machines that others share as well: an example that is slow for
# once says nothing.
settings.register_profile("ingest", deadline=None)
settings.load_profile("ingest")
