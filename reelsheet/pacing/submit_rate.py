"""How many submissions a minute are accepted, where that is what an account limits."""

import math

STEADY_RUN = 20  # acceptances, at least, after which a shorter interval is tried
PAUSE_SHARE = 0.01  # of the time, that the pauses after such tries may cost
FINEST_STEP = 0.01  # by which a shorter interval is tried; doubles with each success
CLOSE = 1.03  # an accepted interval so near to a refused one is the shortest
FALL = 1.05  # by which the accepted interval grows at most, after one refusal


class SubmitRate:
    """Finds the shortest interval at which submissions are accepted, between one that was and one that was not."""

    def __init__(self) -> None:
        self.interval_s = 0.0  # between two submissions; 0.0 while the rate is not known to be limited
        self._sent_at = -math.inf
        self._accepted_s = 0.0  # the interval that was accepted
        self._refused_s = 0.0  # the interval that was refused
        self._step = FINEST_STEP
        self._run = 0  # acceptances at this interval
        self._learning_run = 1  # of them that prove it; doubles where they proved too little, in a burst
        self._steady_run = float(STEADY_RUN)
        self._paced = False  # the latest submission left as soon as the interval allowed
        self._confirmed = False  # by a refusal of what left too soon

    def begin(self, now: float, accepted_s: float, refused_s: float) -> None:
        """The rate is limited: one was accepted each `accepted_s`, and refused `refused_s` after the one before."""
        self.interval_s = self._accepted_s = accepted_s
        self._refused_s = min(refused_s, accepted_s / CLOSE)
        self._sent_at = now
        self._run = 0

    @property
    def retry_s(self) -> float:
        """Seconds after a refusal until the interval has passed that was accepted."""
        return max(self._accepted_s - self.interval_s, self.interval_s / 20)

    @property
    def next_allowed_at(self) -> float:
        """When the next may leave."""
        return self._sent_at + self.interval_s if self.interval_s else -math.inf

    def retry(self) -> None:
        """The next may leave at once."""
        self._sent_at = -math.inf

    def sent(self, now: float) -> None:
        """A POST leaves."""
        self._paced = now - self.next_allowed_at < 0.25 * self.interval_s
        self._sent_at = now

    def accepted(self) -> None:
        """It was accepted: after enough of them, a shorter interval is tried."""
        self._run += self._paced or not self._confirmed
        if not self.interval_s or self._run < (self._learning_run if self._learning else self._steady_run):
            return
        self._run = 0
        self._accepted_s = self.interval_s
        if self._learning:
            self.interval_s = math.sqrt(self._accepted_s * self._refused_s)
        else:
            self.interval_s = self._accepted_s / (1 + self._step)
            self._step = min(2 * self._step, 0.5)

    def refused(self, elapsed_s: float, pause_s: float) -> None:
        """One left `elapsed_s` after the last that was accepted, which was too soon, and costs a pause."""
        self._run = 0
        self._confirmed = True
        if elapsed_s < 0.9 * self.interval_s:  # sooner than the interval allows, which says nothing of it
            return
        self._refused_s = min(elapsed_s, FALL * self._accepted_s)
        if self._refused_s < self._accepted_s / (1 + FINEST_STEP / 2):
            self._step = FINEST_STEP
        else:  # what was accepted before no longer is
            self._accepted_s = self._refused_s * (1 + 2 * FINEST_STEP)
            self._learning_run = min(2 * self._learning_run, STEADY_RUN)
        self.interval_s = math.sqrt(self._accepted_s * self._refused_s) if self._learning else self._accepted_s
        self._steady_run = max(STEADY_RUN, pause_s / self.interval_s / PAUSE_SHARE)

    def scale(self, factor: float) -> None:
        """Others want a part of the rate, or leave some."""
        self.interval_s *= factor
        self._accepted_s *= factor
        self._refused_s *= factor

    def finished(self) -> None:
        """A place is free: where that was the limit after all, one more is accepted at once."""
        if not self._confirmed:
            self.retry()

    @property
    def _learning(self) -> bool:
        return self._accepted_s > CLOSE * self._refused_s
