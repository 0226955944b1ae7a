"""What users' own tests need: the sandbox as a pytest fixture, and a sink that remembers.

    from ingest.testing import sandbox        # in conftest.py

    def test_my_import(sandbox):
        run_my_import(url=sandbox.url, key=sandbox.key)
        assert sandbox.stats()["users"] == 3

The sandbox runs in a thread with a loop of its own, so it serves blocking code, coroutines and
other processes alike. This module needs pytest; nothing else in the package does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ingest.sandbox import Sandbox, SandboxSettings
from ingest.sinks.memory import MemorySink

__all__ = ["MemorySink", "Sandbox", "SandboxSettings", "running_sandbox", "sandbox"]


@contextmanager
def running_sandbox(settings: SandboxSettings | None = None) -> Iterator[Sandbox]:
    """Serve a sandbox from a thread of its own until the block is left.

    Read it (`stats`, `user`) when requests have been answered. Raises `ConfigError` as the sandbox
    does.
    """
    sandbox = Sandbox(settings)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="ingest-sandbox", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(sandbox.start(), loop).result()
        try:
            yield sandbox
        finally:
            asyncio.run_coroutine_threadsafe(sandbox.aclose(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(name="sandbox")
def sandbox() -> Iterator[Sandbox]:
    """A sandbox with the documented defaults, fresh for each test."""
    with running_sandbox() as running:
        yield running
