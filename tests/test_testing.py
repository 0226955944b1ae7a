"""What users' own tests need."""

from __future__ import annotations

from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from ingest.errors import ConfigError
from ingest.testing import Sandbox, SandboxSettings, running_sandbox, sandbox

__all__ = ["sandbox"]  # a fixture is found by its name in this module


def post(to: Sandbox, body: bytes) -> int:
    """Send a body with a blocking client; return the status."""
    headers = {"Authorization": f"Bearer {to.key}", "Content-Type": "application/json"}
    try:
        with urlopen(Request(f"{to.url}/users/track", body, headers)) as response:
            return int(response.status)
    except HTTPError as error:
        error.close()
        return error.code


def test_the_fixture_serves_blocking_code(sandbox: Sandbox) -> None:
    """No event loop is needed to talk to it, nor to look at it."""
    assert post(sandbox, b'{"attributes": [{"external_id": "u", "plan": "pro"}]}') == 201
    user = sandbox.user("u")
    assert user is not None
    assert user["attributes"] == {"plan": "pro"}


def test_settings_are_taken() -> None:
    """Any behaviour of the sandbox can be had in a test."""
    with running_sandbox(SandboxSettings(faults="503:1")) as outage:
        assert post(outage, b"{}") == 503


def test_a_start_that_fails_leaves_nothing_behind() -> None:
    """The error of the sandbox comes through."""
    with running_sandbox() as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(ConfigError), running_sandbox(SandboxSettings(port=port)):
            pytest.fail("two servers on one port")
