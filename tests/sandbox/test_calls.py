"""The seam of the sandbox: whose a request is."""

from __future__ import annotations

import pytest

from ingest.codec import loads
from ingest.sandbox.appboy import Appboy
from ingest.sandbox.batchcep import BatchCep
from ingest.sandbox.braze import Braze
from ingest.sandbox.buckets import Unlimited
from ingest.sandbox.calls import Answer, Call, Routes, is_json, page, queued, too_long_to_read
from ingest.sandbox.faults import FAULTS
from ingest.sandbox.rules import Caps
from ingest.sandbox.store import Store

STORE = Store(keep=1, keep_bytes=1)
BRAZE = Braze(STORE, key="k", caps=Caps(), rate=(), bulk_rate=(), export_rate=(), dialect="classic")
APPBOY = Appboy(STORE, key="k", rate=())
CEP = BatchCep(STORE, key="k", update=Unlimited(), mass_update=Unlimited())
ROUTES = Routes((CEP, APPBOY, BRAZE))

BEARER = {"Authorization": "Bearer k"}
GROUP = b'{"app_group_id": "g"}'


@pytest.mark.parametrize(
    ("path", "headers", "body", "whose"),
    [
        ("/users/track", BEARER, None, BRAZE),
        ("/users/track", BEARER, GROUP, BRAZE),
        ("/users/track", {}, None, None),
        ("/users/track", {}, GROUP, APPBOY),
        ("/users/track", {}, b'{"api_key": "k"}', BRAZE),
        ("/users/track", {}, b"{", BRAZE),
        ("/users/track/bulk", {}, None, BRAZE),
        ("/nowhere", {}, None, BRAZE),
        ("/2.11/profiles/update", {}, None, CEP),
        ("/2.11/profiles/update", BEARER, None, CEP),
        ("/1.0/profiles/update", BEARER, None, BRAZE),
    ],
)
def test_path_header_and_body_tell_whose_a_request_is(
    path: str, headers: dict[str, str], body: bytes | None, whose: object
) -> None:
    """Without a header the body is waited for, where two have the path."""
    assert ROUTES.find(Call("POST", path, headers, 0.0), body) is whose


def test_a_path_is_counted_as_what_it_is() -> None:
    """By whoever has it; what nobody has is nothing."""
    for path in ("/users/track", "/users/identify", "/2.11/profiles/update"):
        assert ROUTES.place(path) == path
    assert ROUTES.place("/nowhere") is None
    assert ROUTES.fallback is BRAZE
    assert BRAZE.claims(Call("GET", "/nowhere", {}, 0.0), None)
    assert BRAZE.too_long().status == 413
    ROUTES.reset()


@pytest.mark.parametrize(
    ("headers", "readable"),
    [
        ({"Content-Type": "application/json"}, True),
        ({"Content-Type": "Application/JSON; charset=utf-8"}, True),
        ({"Content-Type": "text/plain"}, False),
        ({}, False),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, False),
    ],
)
def test_a_body_is_plain_json(headers: dict[str, str], readable: bool) -> None:
    """Or it is not read."""
    assert is_json(headers) == readable


def test_a_queued_answer_keeps_every_kind_of_errors() -> None:
    """Those of a renaming have a name of their own."""
    true = Answer(201, b'{"message": "success", "deleted": 1, "rename_errors": [[0, "x"]]}', {})
    answer = queued(FAULTS["202"], true)
    assert loads(answer.body) == {"message": "queued", "rename_errors": [[0, "x"]]}
    assert queued(FAULTS["slow"], true) is true


def test_a_page_is_html_and_an_unread_body_a_413() -> None:
    """The page knows no headers of the destination."""
    answer = page(FAULTS["502html"], Answer(201, b"{}", {"X": "y"}))
    assert (answer.status, answer.html, answer.headers) == (502, True, {})
    assert too_long_to_read().status == 413
