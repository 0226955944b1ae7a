"""Which messages of a queue may be deleted: those that are settled and safe, and no other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ingest import receipts as module
from ingest.receipts import FIRST, Ask, Receipts
from tests.examples import examples


class Life(RuleBasedStateMachine):
    """A queue that gives messages, sometimes again, and does or does not what it is asked to."""

    @initialize(ordered=st.booleans(), give_back=st.booleans())
    def begin(self, ordered: bool, give_back: bool) -> None:
        self.ordered = ordered
        self.back = give_back and not ordered
        self.receipts = Receipts(ordered=ordered, give_back=give_back)
        self.names = 0
        self.handles = 0
        self.group: dict[str, str] = {}
        self.id_of: dict[int, str] = {}
        self.settled: set[str] = set()
        self.bad: set[str] = set()
        self.safe: set[str] = set()
        self.deleted: list[str] = []
        self.expired: set[str] = set()
        self.open: list[int] = []
        self.asked: list[tuple[Ask, bool]] = []
        self.newest: dict[str, str] = {}

    def _received(self, name: str) -> None:
        self.handles += 1
        handle = self.newest[name] = f"{name}/{self.handles}"
        held = {self.id_of[n] for n in self.receipts.rest()}
        number, fresh = self.receipts.take(name, handle, self.group[name])
        assert self.receipts.message_id(number) == name
        assert fresh == (name not in held and name not in self.expired)
        self.expired.discard(name)
        self.id_of[number] = name
        if fresh:
            self.settled.discard(name)
            self.safe.discard(name)
            self.bad.discard(name)
            self.open.append(number)

    @rule(groups=st.lists(st.sampled_from("ab"), min_size=1, max_size=5))
    def come(self, groups: list[str]) -> None:
        for group in groups:
            self.names += 1
            self.group[f"m{self.names}"] = group
            self._received(f"m{self.names}")

    @rule(data=st.data())
    def come_again(self, data: st.DataObject) -> None:
        names = sorted({self.id_of[n] for n in self.receipts.rest()} | self.expired)
        if names:
            self._received(data.draw(st.sampled_from(names)))

    @rule(data=st.data(), bad=st.booleans())
    def settle(self, data: st.DataObject, bad: bool) -> None:
        if self.open:
            number = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            self.receipts.settle([number], [number] if bad else [])
            self.settled.add(self.id_of[number])
            if bad:
                self.bad.add(self.id_of[number])

    @rule()
    def make_safe(self) -> None:
        ended = self.receipts.ended()
        assert {self.id_of[n] for n in ended} <= self.settled
        self.receipts.safe(ended)
        self.safe.update(self.id_of[n] for n in ended)

    @rule()
    def ask(self) -> None:
        delete, back = self.receipts.due()
        for into, asks in ((False, delete), (True, back)):
            for ask in asks:
                name = self.id_of[ask.number]
                assert name in self.safe
                assert into == (name in self.bad and self.back)
                assert ask.handle == self.newest[name]
                assert ask.number not in {one.number for one, _ in self.asked}
                self.asked.append((ask, into))

    @rule(data=st.data(), end=st.sampled_from(["done", "failed", "expired"]))
    def answer(self, data: st.DataObject, end: str) -> None:
        if not self.asked:
            return
        ask, back = self.asked.pop(data.draw(st.integers(0, len(self.asked) - 1)))
        name = self.id_of[ask.number]
        fresh = ask.handle == self.newest[name]
        if end == "done":
            self.receipts.done(ask)
            if fresh and not back:
                self.deleted.append(name)
        elif end == "failed":
            self.receipts.failed(ask)
        else:
            assert self.receipts.expired(ask) == fresh
            if fresh and not back:
                self.expired.add(name)
        assert (ask.number in self.receipts) == (end == "failed" or not fresh)

    @invariant()
    def nothing_is_deleted_that_was_not_safe(self) -> None:
        if hasattr(self, "deleted"):
            assert set(self.deleted) <= self.safe

    @invariant()
    def nothing_is_forgotten(self) -> None:
        if hasattr(self, "open"):
            assert set(self.open) <= set(self.receipts.rest())
            assert len(self.receipts) == len(self.receipts.rest())

    def teardown(self) -> None:
        """Settle all; then all but what expired has been deleted or given back."""
        if not hasattr(self, "open"):
            return
        self.receipts.settle(self.open)
        self.settled.update(self.id_of[n] for n in self.open)
        for ask, _ in self.asked:
            self.receipts.failed(ask)
        for _ in range(3):
            self.receipts.safe(self.receipts.ended())
            for asks in self.receipts.due():
                for ask in asks:
                    self.receipts.done(ask)
        assert len(self.receipts) == 0


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)


@given(
    groups=st.lists(st.sampled_from("abc"), min_size=1, max_size=30),
    data=st.data(),
)
def test_what_is_left_of_a_group_is_always_its_end(groups: list[str], data: st.DataObject) -> None:
    """In whichever order the messages of an ordered queue are settled, bad or not."""
    held = Receipts(ordered=True)
    numbers = [held.take(str(at), "h", group)[0] for at, group in enumerate(groups)]
    settled = data.draw(st.lists(st.sampled_from(numbers), unique=True))
    for number in settled:
        held.settle([number], [number] if data.draw(st.booleans()) else [])
        held.safe(held.ended())
        delete, back = held.due()
        assert not back
        for ask in delete:
            held.done(ask)
        left = held.rest()
        for name in set(groups):
            of_group = [n for n, group in zip(numbers, groups, strict=True) if group == name]
            still = [n for n in of_group if n in left]
            assert still == of_group[len(of_group) - len(still) :]
            assert not still or still[0] not in settled[: settled.index(number) + 1]


def test_a_group_waits_while_a_delete_before_it_has_no_answer() -> None:
    """What comes after it is asked for once that is known to have worked."""
    held = Receipts(ordered=True)
    first, second, third = (held.take(name, "h", "g")[0] for name in "xyz")
    held.settle([second, first])
    held.safe(held.ended())
    asks, _ = held.due()
    assert [ask.number for ask in asks] == [first, second]
    held.settle([third])
    held.safe(held.ended())
    held.done(asks[1])
    assert held.due() == ([], [])
    held.failed(asks[0])
    assert [ask.number for ask in held.due()[0]] == [first, third]


def test_a_message_is_settled_once_and_only_if_it_is_here() -> None:
    """Anything else is a mistake of the caller's."""
    held = Receipts()
    number, fresh = held.take("x", "h")
    assert (number, fresh) == (FIRST, True)
    held.settle([number])
    with pytest.raises(ValueError, match="not open"):
        held.settle([number])
    with pytest.raises(ValueError, match="not open"):
        held.settle([number + 1])
    assert held.message_id(number + 1) == ""
    assert number in held
    assert number + 1 not in held


def test_what_is_given_up_comes_again_as_if_for_the_first_time() -> None:
    """By its newest receipt; another number is given to it then."""
    held = Receipts(ordered=True)
    number, _ = held.take("x", "old", "g")
    assert held.take("x", "new", "g") == (number, False)
    ask = held.ask(number)
    assert held.held_by(ask)
    assert not held.held_by(Ask(number, "old"))
    assert held.give_up([number]) == [ask]
    assert not held.held_by(ask)
    assert held.take("x", "newer", "g") == (number + 1, True)


def test_deletes_that_came_too_late_are_remembered_up_to_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The oldest is forgotten first: it is read again, as it would be by anybody."""
    monkeypatch.setattr(module, "OWED_KEPT", 2)
    held = Receipts()
    for name in "xyz":
        number, _ = held.take(name, "h")
        held.settle([number])
        held.safe(held.ended())
        (ask,), _ = held.due()
        assert held.expired(ask)
    assert [held.take(name, "again")[1] for name in "xyz"] == [True, False, False]
    assert len(held.due()[0]) == 2


def test_an_answer_to_an_older_receipt_is_no_end() -> None:
    """The message came again while the queue was asked: it is asked once more, by the newest."""
    held = Receipts()
    number, _ = held.take("x", "old")
    held.settle([number])
    held.safe(held.ended())
    ((old,), _) = held.due()
    held.take("x", "new")
    held.done(old)
    ((new,), _) = held.due()
    assert new == Ask(number, "new")
    held.take("x", "newest")
    assert not held.expired(new)
    assert held.due() == ([Ask(number, "newest")], [])


def test_a_bad_message_that_is_another_s_already_needs_not_be_given_back() -> None:
    """It is read again when it comes again, as one that was given back is."""
    held = Receipts()
    number, _ = held.take("x", "h")
    held.settle([number], [number])
    held.safe(held.ended())
    (_, (ask,)) = held.due()
    assert held.expired(ask)
    assert held.take("x", "again") == (number + 1, True)
