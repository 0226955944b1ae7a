"""Budgets: whether a request may go now, and if not, when.

Decides by our own limits (`ingest.meters`), by what the destination said (holds, what its window
has left), and by what it showed (`ingest.learning`). The destination's word only ever tightens.
What a limit is, and the arithmetic of limits, is in `ingest.rates`, and can be imported from here.

A request costs 1, or the users in it where the destination counts those. Limits, the learned one
too, are spent in cost; what is in flight, and what the destination says is left, are requests.

It does not wait, and knows neither clock nor dice: `now` is seconds of one monotonic clock,
`jitter` is in [0, 1). How many requests run at once is decided in `ingest.inflight`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from ingest.learning import Learner
from ingest.meters import Bucket, Pace, Window, meter_of
from ingest.pace import Spent, Standing
from ingest.rates import (
    CATCH_UP,
    BucketLimit,
    PaceLimit,
    RateLimit,
    WindowLimit,
    largest_cost,
    pacing,
    parse_rate,
    peak_rate,
    scaled,
)
from ingest.serverwords import ServerWord
from ingest.settings import format_duration

__all__ = [
    "Bucket",
    "BucketLimit",
    "Budget",
    "Pace",
    "PaceLimit",
    "RateLimit",
    "Window",
    "WindowLimit",
    "largest_cost",
    "pacing",
    "parse_rate",
    "peak_rate",
    "scaled",
]

HOUR: Final = 3600.0
LONGEST_RESET: Final = HOUR + 60.0
"""Seconds; a reset further away is nonsense (the longest window is an hour; a minute of skew)."""

FIRST_BACKOFF: Final = 1.0
LONGEST_BACKOFF: Final = 30.0
"""Seconds of hold after a 429 without any hint; doubles from one to the other until a success."""

WAKE_SHARE: Final = 0.05
WAKE_LEAST: Final = 0.02
WAKE_MOST: Final = 5.0
"""A hold ends late by up to 5 % of it and 20 ms, at most 5 s: a fleet must not wake as one."""

ROUNDING: Final = 0.5
"""Seconds by which a wait in whole seconds is late on average: a hint is rounded up, and our own
backoff is a guess that the window reopens within."""

WHOLE_SECONDS: Final = 1.0
SAME_WINDOW: Final = 0.9
"""Resets are told in whole seconds, so up to one too late; two closer than 0.9 s are one."""

STRAY: Final = 0.01
SHARED: Final = 60.0
"""Share of a window by which arrivals stray into it from its neighbours, and seconds for which it
is not ours alone once more than that was not ours."""

TOO_MANY: Final = 0.1
"""Share of a window of which the 429s are believed that they came from one that is over, as its end
was told: our own limits let no more than that arrive so late. More, and some clock is wrong."""

SAVED: Final = 4
"""Windows of which what did not stray may stray later, at once: a process that was not let run for
50 ms sends a twentieth of a second's requests late. On average it stays at the same share."""

RECHECK: Final = 1.0
"""Seconds after which to ask again when only an answer in flight can change the decision."""

LEARNED_SLACK: Final = 0.02
"""Seconds of a learned rate that may go at once, beside one request, to regain late timers."""


class _ServerWindow(msgspec.Struct):
    """A window that the destination tells about: what is left of it, and until when."""

    remaining: int
    resets_at: float


class _Why(enum.Enum):
    """What a request waits for, beside our own limits."""

    HOLD = enum.auto()
    LEARNED = enum.auto()
    WINDOW = enum.auto()
    ANSWERS = enum.auto()


class Budget:
    """Several limits, the server's word and what it showed, granted together.

    `delay` asks and `spend` takes. For every answer call `hear` with what it said, and `accepted`
    if it was a success. `sent` is when the answered request was sent; where it is not known, a
    late 429 may count twice. `counts` is what a request costs: 1, or the users in it.

    What is sent a period apart may arrive up to `arrival_slack` seconds closer. A few among
    thousands do not matter; where one request fills a window, its neighbour in the same window is
    twice the limit. So windows and paces are counted over that much longer, and a bucket keeps
    back what flows into it in some such times, of which it can afford more.

    With `vouched` somebody says that the destination takes as much as the limits let go. Then, or
    where its answers say so, that is not approached step by step, before a 429 shows otherwise.
    """

    def __init__(
        self,
        limits: Sequence[RateLimit],
        *,
        counts: Literal["requests", "users"] = "requests",
        arrival_slack: float = 0.0,
        vouched: bool = False,
    ) -> None:
        self.limits = tuple(limits)
        self.counts = counts
        self._own = [(meter_of(limit, arrival_slack), limit) for limit in self.limits]
        self._meters = [meter for meter, _ in self._own]
        self._peak = peak_rate(self.limits)
        windows = [meter for meter in self._meters if isinstance(meter, Window)]
        self._windows_alone = len(windows) == len(self._meters)
        self._shortest = min(windows, key=lambda window: window.period, default=None)
        self._known = self._vouched = vouched
        self._learner = Learner()
        self._learned: Bucket | None = None
        self._held_until = -math.inf
        self._held_for = 0.0
        self._backoff = 0.0
        self._window: _ServerWindow | None = None
        self._window_limit: int | None = None
        self._roomy = False  # whether that has room for all that our own limits let go
        self._shared_until = -math.inf  # others take so much of it that our limits do not do
        self._strays = 0.0
        self._ours = self._ours_before = 0.0  # the most that we sent in a period: now, and before
        self._announced: int | None = None  # the limit that the last good answer told
        self._asked: tuple[float, int] = (1, 0)
        self.answers_matter = True
        """Whether an answer can shorten the last delay; our own limits do not hear of any."""

    @property
    def rate(self) -> float:
        """Cost a second at which it sends while there is work; inf without any limit."""
        return min(self._peak, self._learned.rate) if self._learned else self._peak

    @property
    def remaining(self) -> int | None:
        """What the destination last said is left of its window; None if it does not say."""
        return self._window.remaining if self._window else None

    def delay(self, now: float, cost: float = 1, *, in_flight: int = 0) -> float:
        """Return the seconds until a request may go: 0.0 is now, inf is never.

        `in_flight` is how many requests are unanswered. When their answers decide, the delay is the
        longest to wait: ask again after each of them.
        """
        self._asked = (cost, in_flight)
        if self._learned is None and now >= self._held_until:
            for meter in self._meters:
                if meter.delay(now, cost):
                    break
            else:
                self.answers_matter = True
                return self._answers(now, in_flight)[0] if in_flight else 0.0
        delay, why = self._decide(now)
        self.answers_matter = isinstance(why, _Why)
        if why is _Why.LEARNED:
            self._learner.press()
        return delay

    def free_for(self, now: float, count: int, in_flight: int) -> bool:
        """Whether so many requests that cost 1 may go at this moment, one after the other.

        May be too strict: only of windows it is known without asking for each.
        """
        if self._learned is not None or not self._windows_alone:
            return False
        return not self.delay(now, count, in_flight=in_flight + count - 1)

    def spend(self, now: float, cost: float = 1) -> None:
        """Enter a request as sent, or several."""
        for meter, _ in self._own:
            meter.spend(now, cost)
        if self._learned:
            self._learned.spend(now, cost)

    def accepted(self, now: float, sent: float | None = None, cost: float = 1) -> None:
        """Take in one success: it ends the backoff, and tells what the destination can take.

        `cost` is what was spent for it.
        """
        self._learner.accepted(now, sent, cost)
        if (now if sent is None else sent) >= self._held_until:
            self._backoff = 0.0
        self._adopt(now)

    def hear(
        self,
        word: ServerWord,
        now: float,
        jitter: float,
        in_flight: int,
        sent: float | None = None,
    ) -> None:
        """Take in what an answer said, while `in_flight` other requests are unanswered."""
        announced = word.limit is not None and word.limit == self._announced
        if not word.throttled:
            self._announced = word.limit
        resets_in = self._hear_window(word, now, jitter)
        wait = _sane(word.retry_after, math.inf)
        if not word.throttled:
            if wait:
                self._hold(now, min(wait, HOUR), jitter)
            return
        rounded = wait % 1 == 0
        wait = min(wait, HOUR) or resets_in
        if (
            not wait
            and self._roomy
            and word.reset_in is not None
            and self._is_over(word, now, sent)
        ):
            return  # its window is over, and we are not the reason
        if not wait:
            if (now if sent is None else sent) < self._held_until:
                return  # sent before the hold, so it says nothing that the hold does not know
            self._backoff = min(LONGEST_BACKOFF, max(FIRST_BACKOFF, 2 * self._backoff))
            wait = self._backoff
        self._hold(now, wait, jitter)
        if word.remaining or announced:
            return  # a window whose count is told is kept by its count: nothing is left to learn
        reopens = now + wait - (ROUNDING if rounded else 0.0)
        self._learner.throttled(now, reopens, self._held_until, in_flight, sent)
        self._adopt(now)

    def waits_for(self, now: float) -> str:
        """Return what the request that asked last waits for, as a phrase; empty when nothing."""
        _, why = self._decide(now)
        match why:
            case None:
                return ""
            case _Why.HOLD:
                return f"the destination, which asked for {format_duration(self._held_for)}"
            case _Why.LEARNED:
                return f"a limit of about {self.rate:.3g}{self._unit}/s, learned from its 429s"
            case _Why.WINDOW:
                return f"the destination, which said that only {self.remaining} more may come"
            case _Why.ANSWERS:
                return "answers to the requests in flight"
            case _:
                return f"the rate limit of {why}" + (f" (in{self._unit})" if self._unit else "")

    def standing(self, now: float) -> Standing:
        """Return what is needed to tell how long many more requests take."""
        # What costs the users in it is not spaced; the windows alone hold it back.
        spaced = self._peak * CATCH_UP if self.counts == "requests" else math.inf
        paces = [(0.0, limit.rate) for limit in self.limits if isinstance(limit, PaceLimit)]
        window = self._window if self._window and now < self._window.resets_at else None
        return Standing(
            rate=min(spaced, self._learned.rate) if self._learned else spaced,
            held=max(0.0, self._held_until - now),
            windows=tuple(
                Spent(meter.amount, meter.period, meter.spent(now))
                for meter in self._meters
                if isinstance(meter, Window)
            ),
            buckets=(
                *(
                    (meter.level(now), meter.rate)
                    for meter in self._meters
                    if isinstance(meter, Bucket)
                ),
                *paces,
            ),
            told=(window.remaining, window.resets_at - now) if window else None,
        )

    @property
    def _unit(self) -> str:
        return " users" if self.counts == "users" else ""

    def _decide(self, now: float) -> tuple[float, _Why | RateLimit | None]:
        cost, in_flight = self._asked
        delay = 0.0
        why: _Why | RateLimit | None = None
        if self._held_until > now:
            delay, why = self._held_until - now, _Why.HOLD
        for meter, limit in self._own:
            own = meter.delay(now, cost)
            if own > delay:
                delay, why = own, limit
        if self._learned:
            # Any request goes that one of cost 1 could, into debt: how large they may be was not
            # learned, and a bucket that is too small for one would hold it for ever.
            learned = self._learned.delay(now, min(cost, 1))
            if learned > delay:
                delay, why = learned, _Why.LEARNED
        if in_flight:
            answers, reason = self._answers(now, in_flight)
            if answers > delay:
                delay, why = answers, reason
        return delay, why

    def _answers(self, now: float, in_flight: int) -> tuple[float, _Why]:
        """Return how long to wait at most for the answers in flight, and why.

        All in requests, whatever they cost: so it is told what is left, and so they fly.
        """
        window = self._window
        # Where it has room for all that our own limits let go, and it is ours alone, they keep to
        # it by themselves. What flies across its edge would count twice here.
        alone = self._roomy and now >= self._shared_until
        if window and not alone and now < window.resets_at and window.remaining <= in_flight:
            return window.resets_at - now, _Why.WINDOW
        if in_flight >= self._learner.in_flight(self._known):
            return RECHECK, _Why.ANSWERS
        # After the reset nothing is known of the new window but its size.
        if self._window_limit and not alone and in_flight >= self._window_limit:
            return RECHECK, _Why.ANSWERS
        return 0.0, _Why.ANSWERS

    def _hear_window(self, word: ServerWord, now: float, jitter: float) -> float:
        """Note what is left of the destination's window; return the seconds until it resets, or 0.

        Of one window the least that was heard counts; a late answer of an older one is dropped.
        """
        resets_in = _sane(word.reset_in, LONGEST_RESET)
        if word.limit:
            self._window_limit = word.limit
            self._roomy = self._has_room(word)
            self._known = self._vouched or self._roomy
            if self._roomy:
                self._mind_others(word, now)
        if not resets_in:
            self._hear_late(word, now)
            return 0.0
        resets_at = now + resets_in
        known = self._window if self._window and now < self._window.resets_at else None
        if known and resets_at < known.resets_at - SAME_WINDOW:
            return 0.0
        same = known if known and resets_at <= known.resets_at + SAME_WINDOW else None
        if same:
            resets_at = min(resets_at, same.resets_at)
        if word.remaining is not None:
            remaining = min(word.remaining, same.remaining) if same else word.remaining
            if not same:
                self._save_strays()
                self._ours, self._ours_before = 0.0, self._ours
            self._window = _ServerWindow(remaining, resets_at)
            if not remaining:
                self._hold(now, resets_at - now, jitter)
        return resets_at - now

    def _hear_late(self, word: ServerWord, now: float) -> None:
        """Note a window that was over before the word of it came: it holds nobody any more.

        Where answers take longer than windows that is so of all of them, and only so it is known
        when each of them ended.
        """
        if word.remaining is None or not word.over_for:
            return
        ended, latest = now - word.over_for, self._window
        if latest is None or ended > latest.resets_at + SAME_WINDOW:
            self._save_strays()
            self._window = _ServerWindow(word.remaining, ended)
        elif ended > latest.resets_at - SAME_WINDOW:
            latest.remaining = min(latest.remaining, word.remaining)

    def _has_room(self, word: ServerWord) -> bool:
        """Whether a window that is told takes what our shortest lets go, and is no longer."""
        own = self._shortest
        if own is None or word.limit is None or word.remaining is None or word.reset_in is None:
            return False
        return word.limit >= own.amount and word.reset_in <= own.period + WHOLE_SECONDS

    def _mind_others(self, word: ServerWord, now: float) -> None:
        """Notice that others use a window: more of it than we sent is gone, or half of its room."""
        assert self._shortest is not None
        assert word.limit is not None
        assert word.remaining is not None
        self._strays += word.throttled
        strays = STRAY * word.limit
        used, half = word.limit - word.remaining, (self._shortest.amount + word.limit) / 2
        self._ours = max(self._ours, self._shortest.total(now))
        # What of it is ours lies in one period of what we sent, now or one round trip ago.
        ours = max(self._ours, self._ours_before)
        if self._strays > strays or used > min(half, ours) + strays:
            self._shared_until = now + SHARED

    def _save_strays(self) -> None:
        """Let as many more stray as one window may have, for another one has begun."""
        each = STRAY * (self._window_limit or 0) if self._window else 0.0
        self._strays = max(-SAVED * each, self._strays - each)

    def _is_over(self, word: ServerWord, now: float, sent: float | None) -> bool:
        """Whether a request was sent in a window that we knew, and that is ours alone.

        Or one that others use too, where it was told when it ended: what is left is counted then.
        """
        window = self._window
        known = window is not None and (sent is None or sent < window.resets_at)
        told = word.over_for > 0 and self._strays <= TOO_MANY * (self._window_limit or 0)
        return known and (told or now >= self._shared_until)

    def _hold(self, now: float, wait: float, jitter: float) -> None:
        """Let nothing go for `wait` seconds and a little longer; an earlier hold may be longer."""
        late = jitter * min(WAKE_MOST, WAKE_LEAST + WAKE_SHARE * wait)
        if now + wait + late > self._held_until:
            self._held_until = now + wait + late
            self._held_for = wait

    def _adopt(self, now: float) -> None:
        """Make what was learned a ceiling, unless our own limits are lower."""
        rate = self._learner.rate
        if rate is None and self._learned is None:
            return
        if rate is None or rate >= self._peak:
            self._learner.rate = self._learned = None
            return
        burst = 1 + rate * LEARNED_SLACK
        if self._learned is None:
            self._learned = Bucket(rate, burst)
        elif self._learned.rate != rate:
            self._learned.change(now, rate, burst)


def _sane(seconds: float | None, most: float) -> float:
    """Return a time that was told, or 0.0 if it is missing, negative, too long or no number."""
    return seconds if seconds is not None and 0.0 <= seconds <= most else 0.0
