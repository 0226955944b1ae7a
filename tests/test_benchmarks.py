"""What the benchmarks decide, and that what we are compared with does its work.

Nothing here looks at how fast something is.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import guard, registry, telling
from benchmarks.bare import bodies_of
from benchmarks.commands import module
from benchmarks.corpora import CORPORA, lines_of, written
from benchmarks.destinations import null_server
from benchmarks.guard import Fall, Figure
from benchmarks.holding import share_used
from benchmarks.null_server import ANSWER, Book, Delays, Null, Window
from benchmarks.plots import charts
from benchmarks.sampling import (
    Measurement,
    Plan,
    Point,
    Ratio,
    Result,
    Round,
    Sample,
    Setting,
    Spread,
    take,
)
from ingest.codec import loads
from ingest.intake import Intake, IntakeRules

SOME = 500
"""Records: more than a request holds, and no multiple of it."""

NAMES = (*CORPORA, "kinds", "mixed")


@pytest.mark.parametrize("name", NAMES)
def test_corpora_are_seeded(name: str) -> None:
    """A corpus is the same each time, and a longer one begins with the shorter one."""
    lines = list(lines_of(name, SOME))
    assert len(lines) == SOME
    assert lines == list(lines_of(name, SOME))
    if name != "mixed":
        assert lines == list(lines_of(name, 3 * SOME))[:SOME]


@pytest.mark.parametrize("name", NAMES)
def test_corpora_are_valid(name: str) -> None:
    """Every record passes the intake without a refusal or a warning."""
    lines = [line.rstrip(b"\n") for line in lines_of(name, SOME)]
    taken = list(Intake(IntakeRules()).take(0, lines, 1))
    assert sum(len(chunk) for some in taken for chunk in some.chunks) == SOME
    assert not any(some.refusals or some.warned for some in taken)


@pytest.mark.parametrize("name", CORPORA)
def test_a_table_has_the_rows_of_its_lines(name: str) -> None:
    """NDJSON and CSV of a corpus tell of the same users, and have the same columns."""
    objects = [loads(line)["attributes"] for line in lines_of(name, SOME)]
    header, *rows = lines_of(name, SOME, "csv")
    assert header.decode().strip().split(",") == [*objects[0]]
    assert [row.partition(b",")[0].decode() for row in rows] == [
        one["external_id"] for one in objects
    ]


def test_few_users_are_few() -> None:
    """All corpora but one have a user for each record."""
    users = {
        name: len({loads(line)["attributes"]["external_id"] for line in lines_of(name, 5_000)})
        for name in CORPORA
    }
    assert users.pop("few") <= 1_000
    assert set(users.values()) == {5_000}


def test_ready_bodies_are_those_of_an_import(tmp_path: Path) -> None:
    """A body of 225 has 75 records of each kind, and 75 typical records are all attributes."""
    mixed = loads(bodies_of(written("kinds", SOME, tmp_path), 225)[0])
    assert {name: len(array) for name, array in mixed.items()} == {
        "attributes": 75,
        "events": 75,
        "purchases": 75,
    }
    typical = bodies_of(written("typical", SOME, tmp_path), 75)
    assert [[len(array) for array in loads(body).values()] for body in typical] == [[75]] * 6


def test_contenders_take_turns() -> None:
    """Each round has all of them, and a ratio is that of its round before the median is taken."""
    order = []

    def contender(name: str, rates: list[int]) -> Sample:
        order.append(name)
        return Sample(rates.pop(0), 1.0, 1.0)

    ours, theirs = [10, 20, 90], [10, 10, 10]

    def of(turn: Round) -> float:
        return turn["ours"].rate / turn["theirs"].rate

    @contextmanager
    def plan(setting: Setting) -> Iterator[Plan]:
        yield Plan(
            {
                "ours": lambda: contender("ours", ours),
                "theirs": lambda: contender("theirs", theirs),
            },
            (Ratio("times theirs", of),),
        )

    result = take(Measurement("some", "", plan, (3, 3)), Setting(Path(), "asyncio", 1))
    assert order == ["ours", "theirs"] * 3
    [(_, spread)] = result.ratios
    assert spread == Spread(2.0, 1.0, 9.0)


def test_a_start_up_is_taken_off() -> None:
    """What remains is never nothing, however noisy the start-up was."""
    whole, start = Sample(100, 3.0, 2.0), Sample(1, 1.0, 0.5)
    assert whole.apart(start) == Sample(100, 2.0, 1.5)
    assert start.apart(whole).seconds > 0


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=5),
    st.floats(0.01, 3),
    st.booleans(),
)
def test_a_fall_of_more_than_a_third_is_found(
    medians: list[float], left: float, less_is_better: bool
) -> None:
    """What is left of each ratio decides, in either direction of better."""
    before = {
        "some": {str(at): Figure(median, less_is_better) for at, median in enumerate(medians)}
    }
    factor = 1 / left if less_is_better else left
    after = {
        "some": {
            name: Figure(one.median * factor, less_is_better)
            for name, one in before["some"].items()
        }
    }
    if abs(left - guard.FALL) > 1e-9:
        assert bool(guard.falls(before, after)) == (left < guard.FALL)
    assert not guard.falls(before, before)
    assert not guard.falls(before, guard.better_of(after, before))


def test_what_is_not_measured_any_more_is_told() -> None:
    """A guard does not shrink in silence; what is new has nothing to fall from."""
    before = {"wire": {"share": Figure(0.5)}}
    fall = Fall("wire", "share", 0.5, None)
    assert guard.falls(before, {"wire": {"another": Figure(0.1)}}) == [fall]
    assert "not measured any more" in str(fall)


def test_ratios_are_recorded_by_destination(tmp_path: Path) -> None:
    """What is written leaves other destinations and measurements alone, and is read back."""
    path = tmp_path / "recorded.json"
    assert guard.recorded("nginx", path) is None
    guard.record("nginx", {"wire": {"share": Figure(0.5), "cpu": Figure(2.0, True)}}, path)
    guard.record("asyncio", {"wire": {"share": Figure(0.7)}}, path)
    guard.record("nginx", {"core": {"packing": Figure(1.5, True)}}, path)
    found = guard.recorded("nginx", path)
    assert found is not None
    assert found[0]["null destination"] == "nginx"
    assert found[1] == {
        "wire": {"share": Figure(0.5), "cpu": Figure(2.0, True)},
        "core": {"packing": Figure(1.5, True)},
    }


def test_what_is_recorded_is_what_a_quick_run_measures() -> None:
    """Every recorded measurement is still there, and part of a quick run."""
    quick = {one.name for one in registry.wanted(None, quick=True)}
    for null in ("nginx", "asyncio"):
        if found := guard.recorded(null):
            assert set(found[1]) == quick


def test_only_what_is_guarded_is_recorded() -> None:
    """Ratios that are noisy, or 0 as they should be, are left out."""
    ratios = (
        (Ratio("share", lambda turn: 1.0), Spread(0.5, 0.4, 0.6)),
        (Ratio("429s", lambda turn: 0.0, guarded=False), Spread(0.0, 0.0, 0.0)),
    )
    results = [Result("holding", {}, ratios)]
    assert guard.figures_of(results) == {"holding": {"share": Figure(0.5)}}


def test_a_table_says_what_is_missed() -> None:
    """A ratio that has to be something says whether it is."""
    share = Ratio("share", lambda turn: 1.0, must=0.45, aim=0.7)
    cpu = Ratio("cpu", lambda turn: 1.0, less_is_better=True, must=2.0)
    assert telling.wanted(share, 0.5) == "at least 0.45, aim 0.7: yes"
    assert telling.wanted(cpu, 2.5) == "at most 2: NO"


def test_charts_gather_points() -> None:
    """Points go to their panel and line; what has none is not drawn."""
    one, spread = Point("latency", "share used", 20.0, "steady"), Spread(1.0, 1.0, 1.0)
    ratios = (
        (Ratio("a", lambda turn: 1.0, plot=one), spread),
        (Ratio("b", lambda turn: 1.0), spread),
    )
    assert charts([Result("holding", {}, ratios)]) == {
        "latency": {"share used": {"steady": [(20.0, spread)]}}
    }


@given(st.integers(1, 20), st.lists(st.floats(0, 3), max_size=100))
def test_a_window_lets_no_more_through(amount: int, waits: list[float]) -> None:
    """In each window of the clock at most its amount is accepted; what is refused is counted."""
    book, now, within = Book(Window(amount, 1.0)), 1_000.0, dict[int, int]()
    for wait in waits:
        now += wait / 10
        if book.answer(now).startswith(b"HTTP/1.1 201"):
            within[int(now)] = within.get(int(now), 0) + 1
    assert max(within.values(), default=0) <= amount
    assert sum(within.values()) == len(book.arrivals)
    assert len(book.arrivals) + book.refused == len(waits)


def test_a_window_tells_what_is_left() -> None:
    """The headers count down to 0, and name the edge of the clock at which it is whole again."""
    book = Book(Window.parse("2/1s"))
    answers = [book.answer(1_000.5) for _ in range(3)]
    assert [answer.split(b"Remaining: ")[1][:1] for answer in answers] == [b"1", b"0", b"0"]
    assert b"429" in answers[2]
    assert all(b"X-RateLimit-Reset: 1001\r\n" in answer for answer in answers)


class _Wire:
    """Stands in for a transport: keeps what is written."""

    def __init__(self, most: int = 0) -> None:
        self.written: list[bytes] = []
        self.all = asyncio.Event()
        self._most = most

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if len(self.written) == self._most:
            self.all.set()


@given(st.lists(st.integers(0, 300), min_size=1, max_size=5), st.data())
def test_the_null_server_answers_each_request_once(sizes: list[int], data: Any) -> None:
    """However the bytes come in, there are as many answers as requests."""
    head = b"POST /users/track HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
    sent = b"".join(head % size + b"\r\n" * (size // 2) + b"x" * (size % 2) for size in sizes)
    null, wire = Null(Delays(0.0, 0.0), None), _Wire()
    null.connection_made(wire)  # type: ignore[arg-type]  # as much of a transport as it uses
    left = sent
    while left:
        some = data.draw(st.integers(1, len(left)))
        null.data_received(left[:some])
        left = left[some:]
    assert wire.written == [ANSWER] * len(sizes)


@pytest.mark.asyncio
async def test_the_null_server_counts_what_is_in_flight() -> None:
    """Until its answer was written a request is in flight; the most of them is kept."""
    book, wire = Book(None), _Wire(3)
    null = Null(Delays(0.001, 0.0), book)
    null.connection_made(wire)  # type: ignore[arg-type]  # as much of a transport as it uses
    null.data_received(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n" * 3)
    assert book.in_flight == 3
    async with asyncio.timeout(10):
        await wire.all.wait()
    assert book.in_flight == 0
    assert (book.most_in_flight, len(wire.written), len(book.arrivals)) == (3, 3, 3)


@given(st.integers(1, 200), st.floats(0.1, 1.0), st.floats(1.5, 5.0), st.floats(0.0, 1.0))
def test_a_steady_rate_uses_its_share(
    allowed: int, share: float, seconds: float, since: float
) -> None:
    """Arrivals at a share of the allowance use that share of it, whenever one begins to look."""
    rate = allowed * share
    arrivals = [at / rate for at in range(int(rate * seconds) + 1)]
    if arrivals[-1] - since < 0.2:
        return
    span = max(arrivals[-1] - since, 1.0)
    assert share_used(arrivals, allowed, since) == pytest.approx(
        share, abs=2 / (allowed * span) * 5
    )


def test_the_beginning_does_not_count() -> None:
    """What was not used before one begins to look is not missed, nor is the end of the run."""
    late = [2.0 + at / 100 for at in range(301)]
    assert share_used([0.0, *late], 100, 2.0) == pytest.approx(1.0)
    assert share_used([0.0], 100, 1.0) == 0.0


@given(st.integers(1, 10), st.floats(0.0, 2.0))
def test_what_was_refused_and_comes_late_does_not_count(refused: int, late: float) -> None:
    """A run that has only that left to send is not blamed for the round trip that it waits."""
    steady = [at / 1000 for at in range(5001)]
    again = [steady[-1] + late] * refused
    assert share_used([*steady, *again], 1000, 1.0, refused) == pytest.approx(1.0, abs=0.002)
    assert share_used([*steady, *again], 1000, 1.0, refused) <= 1.0


@given(st.integers(0, 40), st.floats(0.5, 0.98))
def test_refusals_hide_no_pause(refused: int, share: float) -> None:
    """What was not used before the end is missed, whatever was refused."""
    steady = [at / (1000 * share) for at in range(5000)]
    assert share_used(steady, 1000, 1.0, refused) <= share + 0.01
    assert share_used([0.0], 1000, 0.0, refused) == 0.0


class _Counting(BaseHTTPRequestHandler):
    """Accepts everything, and keeps the bodies."""

    protocol_version = "HTTP/1.1"
    bodies: list[Any]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append((self.path, loads(body)))
        answer = b'{"message":"success"}'
        self.send_response(201)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def _counting() -> Iterator[tuple[str, list[Any]]]:
    handler = type("Handler", (_Counting,), {"bodies": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler.bodies  # type: ignore[attr-defined]  # made above
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("program", "needs", "options"),
    [
        ("by_hand", "requests", ()),
        ("by_hand", "requests", ("--session",)),
        ("by_braze_client", "braze", ()),
        ("by_braze_client", "braze", ("--threads", "4")),
        ("by_segment", "segment", ()),
    ],
)
def test_the_others_deliver_every_row(
    program: str, needs: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    """What we are compared with sends all rows of the table, each once, with all its columns."""
    if importlib.util.find_spec(needs) is None:
        pytest.skip("the dependency group bench is not installed")
    table = written("typical", SOME, tmp_path, "csv")
    with _counting() as (url, bodies):
        sample = module(program, str(table), url, *options)
    assert sample.records == SOME
    if program == "by_segment":
        sent = [
            {"external_id": one["userId"], **one["traits"]}
            for _, body in bodies
            for one in body["batch"]
        ]
        assert max(len(body["batch"]) for _, body in bodies) <= 100
    else:
        sent = [one for _, body in bodies for one in body["attributes"]]
        assert {path for path, _ in bodies} == {"/users/track"}
        assert max(len(body["attributes"]) for _, body in bodies) == 75
    expected = [loads(line)["attributes"] for line in lines_of("typical", SOME)]
    assert sorted(sent, key=lambda one: str(one["external_id"])) == expected


def test_the_limit_posts_what_it_says(tmp_path: Path) -> None:
    """The bare client sends as many requests as asked, at a pace too; the server counts them."""
    path = written("typical", SOME, tmp_path)
    with null_server(0.001, 0.0005, "100000/1s") as null:
        for pace in ((), ("--rate", "2000")):
            sample = module("bare", str(path), null.url, "--requests", "40", *pace)
            assert sample.records == 40 * 75
    assert (len(null.came["arrivals"]), null.came["refused"]) == (80, 0)
    assert 1 <= null.came["most_in_flight"] <= 40
