"""Who learns from an answer, and what each of them is told.

An answer is news to the balance, the health of the destination, the budget, the in-flight control
and whoever observes. Decides nothing but in which order they hear of it; records are settled
elsewhere (`ingest.noting`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ingest.balance import Balance
from ingest.health import Health, Heard
from ingest.inflight import Fixed, InFlight
from ingest.observer import Answered, Observer
from ingest.outcomes import Delivered, Throttled, Unanswered, Unavailable
from ingest.resends import Case
from ingest.sinks.base import Answer
from ingest.throttle import Throttle


class Hearing:
    """Tells all who learn from answers. `now` is the pipeline's clock, in seconds.

    `others` is how many requests are in flight besides, when the (first) answer is heard.
    """

    def __init__(
        self,
        balance: Balance,
        health: Health,
        throttle: Throttle,
        in_flight: InFlight | Fixed,
        observer: Observer,
    ) -> None:
        self._balance = balance
        self._health = health
        self._throttle = throttle
        self._in_flight = in_flight
        self._observer = observer
        # Nothing is made for nobody: the class itself takes no notice.
        self._observed = getattr(observer.answered, "__func__", None) is not Observer.answered

    def hear(
        self,
        case: Case,
        answer: Answer,
        now: float,
        others: int,
        *,
        cut_alone_since: float | None,
        jitter: float,
    ) -> Heard:
        """Tell of any answer; see `Health.hear`, which this returns the word of."""
        batch, outcome = case.batch, answer.outcome
        self._balance.answered(answer.status, throttled=isinstance(outcome, Throttled))
        self._health.answered(batch)
        self._tell_throttle(case, answer, others)
        heard = self._health.hear(
            batch,
            outcome,
            now,
            asked_delay=(answer.word.retry_after or 0.0) if answer.word else 0.0,
            cut_alone_since=cut_alone_since,
            jitter=jitter,
        )
        if isinstance(outcome, Unavailable | Unanswered):
            case.failed_at = now
        self._in_flight.rate = self._throttle.rate / case.cost
        self._in_flight.answered(now, now - case.sent_at, heard.said)
        self._observe(case, answer, now, heard.notice)
        return heard

    def took(self, taken: Sequence[tuple[Case, Answer]], now: float, others: int) -> None:
        """Tell of requests that were taken as they are, as `hear` does of each."""
        for status, count in Counter([answer.status for _, answer in taken]).items():
            self._balance.answered(status, count=count)
        for behind, (case, answer) in enumerate(taken):
            self._tell_throttle(case, answer, others - behind)
        notice = self._health.took([case.batch for case, _ in taken], now)
        rate, cost, in_flight = self._throttle.rate, 0.0, self._in_flight
        for case, answer in taken:
            if case.cost != cost:
                cost = case.cost
                in_flight.rate = rate / cost
            in_flight.answered(now, now - case.sent_at, "ok")
            self._observe(case, answer, now, notice)
            notice = ""

    def _tell_throttle(self, case: Case, answer: Answer, others: int) -> None:
        self._throttle.hear(
            answer.word,
            others,
            accepted=isinstance(answer.outcome, Delivered),
            sent=case.granted_at,
            cost=case.cost,
        )

    def _observe(self, case: Case, answer: Answer, now: float, notice: str) -> None:
        if self._observed:
            self._observer.answered(Answered(answer.status, now - case.sent_at, case.batch.records))
        if notice:
            self._observer.notice(notice)
