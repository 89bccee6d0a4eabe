"""How many tokens to draft: as many as give the most tokens in the least time, by what has been seen so far.

Where the target keeps each proposed token with probability a, k drafted tokens and the one that the target adds give

    (1 - a^(k+1)) / (1 - a)    tokens in    k d + v(k)    seconds,

with d the time of a draft's step and v(k) that of the pass which verifies. The k of the best ratio is taken; k = 0, a
plain step, is one of them, so that a draft which does not pay costs next to nothing.

All three are measured: a as a share of the tokens that were judged, d as a mean, v as a straight line through the mean
times of passes of each length; each forgets what is old. Where a step of a draft of another vocabulary makes s tokens
of the target, k counts its steps, and a pass verifies s k tokens.

Reference: Leviathan et al. 2023, arXiv 2211.17192, theorem 3.8, where v(k) is the time of a plain step.
"""

from __future__ import annotations

MAX_STEPS = 16
FIRST_STEPS = 3
"""With the token before them these make four, which the CPU's engine reads at once."""
FIRST_PAUSE, LONGEST_PAUSE = 24, 192
"""Rounds until a draft that did not pay is tried again, for the text may become easier; each time twice as many."""
MEMORY_TOKENS = 64
MEMORY_PASSES = 16
PRIOR = (4.0, 1.0)
"""Tokens kept and rejected that are taken for seen at the beginning."""


class DraftLength:
    """Chooses the number of draft steps of each round, and learns from what came of it.

    Args:
        fixed: this many in every round; None adapts.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self._fixed = fixed
        self._num_kept, self._num_rejected = PRIOR
        self._step_seconds: float | None = None
        self._pass_seconds: dict[int, float] = {}
        self._tokens_per_step = 1.0
        self._num_plain, self._pause = 0, FIRST_PAUSE
        self._is_drafting = self._was_drafting = False

    @property
    def acceptance_rate(self) -> float:
        """Probability that a proposed token is kept, if all before it are."""
        return self._num_kept / (self._num_kept + self._num_rejected)

    def begin_text(self) -> None:
        """Prepare for another text: its first draft reads all of the prompt, which is no measure of its steps."""
        self._is_drafting = False

    def choose(self) -> int:
        """Return the number of draft steps of the next round."""
        num_steps = self._best() if self._fixed is None else self._fixed
        self._was_drafting, self._is_drafting = self._is_drafting, num_steps > 0
        return num_steps

    def learn_token(self, *, is_kept: bool) -> None:
        """Add what the target said of a proposed token; those behind a rejected one are not judged."""
        remembered = 1 - 1 / MEMORY_TOKENS
        self._num_kept = self._num_kept * remembered + is_kept
        self._num_rejected = self._num_rejected * remembered + (not is_kept)

    def learn_times(self, *, num_steps: int, draft_seconds: float, num_proposed: int, pass_seconds: float) -> None:
        """Add what a round took.

        Args:
            num_steps: of the draft, or of a look into the text one for each token that it found.
            draft_seconds: of all of them.
            num_proposed: tokens that the pass verified, besides the one before them.
            pass_seconds: of that pass.
        """
        known = self._pass_seconds.get(num_proposed + 1, pass_seconds)
        self._pass_seconds[num_proposed + 1] = _moved(known, pass_seconds)
        if num_steps:
            self._tokens_per_step = _moved(self._tokens_per_step, num_proposed / num_steps)
            if self._was_drafting:  # else the draft has first read what it had missed
                seconds = draft_seconds / num_steps
                self._step_seconds = _moved(self._step_seconds or seconds, seconds)

    def _best(self) -> int:
        if 1 not in self._pass_seconds:
            return 0  # what a plain step takes must be known
        if self._step_seconds is None or len(self._pass_seconds) < 2:
            return FIRST_STEPS
        if self._num_plain == 0:
            speeds = self._tokens_per_second()
            if best := speeds.index(max(speeds)):
                self._pause = FIRST_PAUSE
                return best
        if self._num_plain < self._pause:
            self._num_plain += 1
            return 0
        self._num_plain, self._pause = 0, min(2 * self._pause, LONGEST_PAUSE)
        # What was seen before the pause counts for less, and steps are timed anew.
        self._num_kept, self._num_rejected, self._step_seconds = self._num_kept / 4, self._num_rejected / 4, None
        return FIRST_STEPS

    def _tokens_per_second(self) -> list[float]:
        """Return the speed to expect of each number of steps, from none to `MAX_STEPS`."""
        assert self._step_seconds is not None
        rate, (plain, per_token) = min(self.acceptance_rate, 0.999), self._pass_line()
        speeds = []
        for num_steps in range(MAX_STEPS + 1):
            num_proposed = self._tokens_per_step * num_steps
            seconds = num_steps * self._step_seconds + plain + per_token * num_proposed
            speeds.append((1 - rate ** (num_proposed + 1)) / (1 - rate) / seconds)
        return speeds

    def _pass_line(self) -> tuple[float, float]:
        """Return what a plain pass takes, and what a proposed token adds: a line from the former, of least squares."""
        plain = self._pass_seconds[1]
        others = [(count - 1, seconds - plain) for count, seconds in self._pass_seconds.items() if count > 1]
        per_token = sum(more * longer for more, longer in others) / sum(more * more for more, _ in others)
        return plain, max(per_token, 0.0)


def _moved(mean: float, value: float) -> float:
    """Follow a measurement, quickly downwards: what else the machine does only ever makes a pass longer."""
    return mean + (value - mean) / (MEMORY_PASSES if value > mean else MEMORY_PASSES / 4)
