"""Legacy Appboy, as its accounts of about 2016 know it.

`schema` says which records it takes, `rows` is the table of its endpoints, `sink` puts them on the
wire and reads what it answers: sentences that do not say which record they are about.
"""

from __future__ import annotations

from ingest.sinks.appboy.sink import DESTINATION, AppboySink, AppboyWire

__all__ = ["DESTINATION", "AppboySink", "AppboyWire"]
