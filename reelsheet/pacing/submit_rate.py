"""How many submissions a minute are accepted, where that is what an account limits."""

import math

STEADY_RUN = 20  # acceptances, at least, after which a shorter interval is tried
PAUSE_SHARE = 0.01  # of the time, that the pauses after such tries may cost
STEP, FALL = 0.01, 0.05  # by which a shorter interval is tried, doubles with each success; by which it grows at most
CLOSE = 1.03  # between an accepted interval and a refused one so near to it, nothing is searched


class SubmitRate:
    """Finds the shortest interval at which nearly all submissions are accepted.

    First halfway between one that was accepted and one that was not. From then on by small steps, because the
    same interval is accepted or refused by how long each POST is on its way.
    """

    def __init__(self) -> None:
        self.interval_s = 0.0  # between two submissions; 0.0 while the rate is not known to be limited
        self.paced = False  # the latest submission left as soon as the interval allowed
        self._sent_at = -math.inf
        self._accepted_s = 0.0  # the interval that was accepted
        self._refused_s = 0.0  # the interval that was refused; 0.0 when the search between the two is over
        self._step = STEP
        self._run = 0  # acceptances at this interval
        self._steady_run = float(STEADY_RUN)

    def begin(self, now: float, accepted_s: float, refused_s: float) -> None:
        """The rate is limited: one was accepted each `accepted_s`, and refused `refused_s` after the one before."""
        self.interval_s = self._accepted_s = accepted_s
        self._refused_s = min(refused_s, accepted_s / CLOSE)
        self._sent_at = now
        self._run = 0

    @property
    def next_allowed_at(self) -> float:
        """When the next may leave."""
        return self._sent_at + self.interval_s if self.interval_s else -math.inf

    def retry(self) -> None:
        """The next may leave at once."""
        self._sent_at = -math.inf

    def sent(self, now: float) -> None:
        """A POST may leave."""
        self.paced = now - self.next_allowed_at < 0.25 * self.interval_s
        self._sent_at = now

    def left(self, now: float) -> None:
        """Its bytes leave only now: what comes before them takes now more, now less time."""
        self._sent_at = now

    def accepted(self) -> None:
        """It was accepted: after enough of them, a shorter interval is tried."""
        self._run += self.paced
        if not self.interval_s or self._run < (1 if self._refused_s else self._steady_run):
            return
        self._run = 0
        self._accepted_s = self.interval_s
        if self._refused_s:
            self._search()
        else:
            self.interval_s /= 1 + self._step
            self._step = min(2 * self._step, 0.5)

    def refused(self, elapsed_s: float, pause_s: float) -> None:
        """What left as soon as the interval allowed was refused, until `elapsed_s` after the last that was accepted."""
        self._run = 0
        self._steady_run = max(STEADY_RUN, pause_s / self.interval_s / PAUSE_SHARE)
        if self._refused_s:
            self._refused_s = self.interval_s
            self._search()
            return
        self._step = STEP
        if self.interval_s < self._accepted_s:
            self.interval_s = self._accepted_s
        else:  # what was accepted no longer is
            self.interval_s *= 1 + min(FALL, max(2 * STEP, elapsed_s / self.interval_s - 1))

    def scale(self, factor: float) -> None:
        """Others want a part of the rate, or leave some."""
        self.interval_s *= factor
        self._accepted_s *= factor
        self._refused_s *= factor

    def _search(self) -> None:
        if self._accepted_s > CLOSE * self._refused_s:
            self.interval_s = math.sqrt(self._accepted_s * self._refused_s)
        else:
            self.interval_s, self._refused_s = self._accepted_s, 0.0
