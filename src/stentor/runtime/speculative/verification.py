"""What the target makes of tokens that a draft proposes: every token that comes out is distributed as without a draft.

Let p be the target's distribution of the next token, with all settings and the history of that very position. A draft
may propose a token in one of two ways.

**Drawn.** The draft draws x from a distribution q of its own. x is kept with probability min(1, p(x) / q(x)); where it
is not, the token is drawn from the residual, max(0, p - q) divided by its sum. A token v then comes out with

    q(v) min(1, p(v) / q(v)) + P(rejected) max(0, p(v) - q(v)) / sum_w max(0, p(w) - q(w)),

    and P(rejected) = 1 - sum_w min(q(w), p(w)) = sum_w max(0, p(w) - q(w)), for q sums to 1 as p does,

so that it is min(q(v), p(v)) + max(0, p(v) - q(v)) = p(v), whatever q is.

**Chosen.** x comes from no distribution that is known: it was looked up in the text, or is what another vocabulary
made of the text. As q is then all on x, the rule would be: keep x with probability p(x), else draw from p without x.
Drawing y from p and keeping x where y = x is that rule: y = x has probability p(x), and given that y is not x, y has
the distribution of p without x. So the token is simply drawn from p, with the one random number that it would take
without a draft: the same seed gives the very same text. x may depend on the text so far, and on anything but that
number.

Both hold given all tokens before, and tokens behind a rejected one are thrown away; so by induction the whole text has
its distribution. At temperature 0, p is all on one token, and the text is the same in both ways.

Reference: Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding", arXiv 2211.17192,
appendix A.1; Chen et al. 2023, arXiv 2302.01318, theorem 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stentor.runtime.sampling import Probs, draw


@dataclass(frozen=True, slots=True)
class Proposal:
    """Tokens of the target's vocabulary that may come next.

    Attributes:
        token_ids: in their order; may be none.
        probs: the distribution [V] that each was drawn from; None where they were chosen without one.
        num_steps: passes of the draft's network that they took.
    """

    token_ids: Sequence[int]
    probs: Sequence[Probs] | None = None
    num_steps: int = 0

    def shortened(self, limit: int) -> Proposal:
        """Return its first tokens, at most so many."""
        if len(self.token_ids) <= limit:
            return self
        return Proposal(self.token_ids[:limit], self.probs and self.probs[:limit], self.num_steps)

    def at(self, place: int) -> tuple[int, Probs | None]:
        """Return one of its tokens, and what it was drawn from."""
        return self.token_ids[place], None if self.probs is None else self.probs[place]


def verified(target_V: Probs, proposed_id: int, draft_V: Probs | None, generator: np.random.Generator) -> int:
    """Return the next token: it is the proposed one where that is kept, and only there.

    Args:
        target_V: the target's probabilities.
        proposed_id: what the draft proposes.
        draft_V: the probabilities it was drawn with, None where it was chosen.
        generator: has had no part in choosing a token that was chosen.
    """
    if draft_V is None:
        return draw(target_V, generator)
    if happens(target_V[proposed_id] / draft_V[proposed_id], generator):
        return proposed_id
    return draw(residual(target_V, draft_V), generator)


def residual(target_V: Probs, draft_V: Probs) -> Probs:
    """Return the probabilities [V] of the token in place of one that was drawn from the draft's and rejected."""
    left_V = np.maximum(target_V - draft_V, 0)
    total = left_V.sum()
    # Equal but for rounding, they leave nothing; then either may be drawn from.
    return left_V / total if total > 0 else target_V


def happens(probability: float, generator: np.random.Generator) -> bool:
    """Draw an event of this probability; from 1 on it is certain."""
    return generator.random() < probability
