"""How many tokens to draft: as many as give the most tokens in the least time, by what has been seen so far.

Where the target keeps each proposed token with probability a, k drafted tokens and the one that the target adds give

    (1 - a^(k+1)) / (1 - a)    tokens in    k d + v(k)    seconds,

with d the time of a draft's step and v(k) that of the pass which verifies. The k of the best ratio is taken; k = 0, a
plain step, is one of them, so that a draft which does not pay costs next to nothing.

All three are measured: a as a share of the tokens that were judged, d as a mean, v as a straight line through the mean
times of passes of each length; each forgets what is old. A draft of another vocabulary makes s tokens of the target
in a step: then k counts its steps, and a pass verifies s k tokens.

Reference: Leviathan et al. 2023, arXiv 2211.17192, theorem 3.8, where v(k) is the time of a plain step.
"""

from __future__ import annotations

MAX_STEPS = 16
FIRST_STEPS = 4
PLAIN_BETWEEN_TRIALS = 24
"""Plain steps after which a draft that did not pay is tried again: the text may have become an easier one."""
TRIAL_STEPS = 2
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
        self._num_plain = 0

    @property
    def acceptance_rate(self) -> float:
        """Probability that a proposed token is kept, if all before it are."""
        return self._num_kept / (self._num_kept + self._num_rejected)

    def choose(self) -> int:
        """Return the number of draft steps of the next round."""
        if self._fixed is not None:
            return self._fixed
        if 1 not in self._pass_seconds:
            return 0  # what a plain step takes must be known
        if self._step_seconds is None or len(self._pass_seconds) < 2:
            return FIRST_STEPS
        best = max(range(MAX_STEPS + 1), key=self._tokens_per_second)
        if best == 0 and self._num_plain >= PLAIN_BETWEEN_TRIALS:
            return TRIAL_STEPS
        return best

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
            seconds = draft_seconds / num_steps
            # After a pause the draft reads all that it has missed: that is no measure of its steps.
            if self._num_plain == 0 or self._step_seconds is None:
                self._step_seconds = _moved(seconds if self._step_seconds is None else self._step_seconds, seconds)
            self._tokens_per_step = _moved(self._tokens_per_step, num_proposed / num_steps)
        self._num_plain = 0 if num_steps else self._num_plain + 1

    def _tokens_per_second(self, num_steps: int) -> float:
        rate, num_proposed = min(self.acceptance_rate, 0.999), self._tokens_per_step * num_steps
        num_tokens = (1 - rate ** (num_proposed + 1)) / (1 - rate)
        assert self._step_seconds is not None
        return num_tokens / (num_steps * self._step_seconds + self._expected_pass_seconds(num_proposed + 1))

    def _expected_pass_seconds(self, num_tokens: float) -> float:
        """Return the time of a pass by the line of least squares through those seen, at least that of a plain step."""
        counts, seconds = list(self._pass_seconds), list(self._pass_seconds.values())
        mean_count, mean_seconds = sum(counts) / len(counts), sum(seconds) / len(seconds)
        spread = sum((count - mean_count) ** 2 for count in counts)
        slope = sum((c - mean_count) * (s - mean_seconds) for c, s in zip(counts, seconds, strict=True)) / spread
        line = mean_seconds + max(slope, 0.0) * (num_tokens - mean_count)
        return max(line, self._pass_seconds[1]) if num_tokens > 1 else self._pass_seconds[1]


def _moved(mean: float, value: float) -> float:
    """Follow a measurement, quickly downwards: what else the machine does only ever makes a pass longer."""
    return mean + (value - mean) / (MEMORY_PASSES if value > mean else MEMORY_PASSES / 4)
