"""What the distribution of the next token is, in plain NumPy: the slow twin of `sampling_kernels`.

The order is that of transformers' logits processors; presence and frequency penalties, which it lacks, come where
vLLM has them, after the repetition penalty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stentor.runtime.sampling import Sampling

Floats = NDArray[np.float64]


def reference_distribution(
    logits_V: NDArray[np.floating],
    sampling: Sampling,
    *,
    prompt_ids: Sequence[int],
    output_ids: Sequence[int],
    eos_token_id: int,
) -> Floats:
    """Return the probabilities [V] of the next token.

    Args:
        logits_V: of every token; -inf where one must not be drawn. One at least must be finite after the settings.
        sampling: the settings.
        prompt_ids: the text that is continued.
        output_ids: what was drawn since.
        eos_token_id: the token that `min_new_tokens` and `ignore_eos` forbid.
    """
    scores_V = np.array(logits_V, np.float64)
    for token_id, bias in sampling.logit_bias.items():
        scores_V[token_id] += bias
    scores_V = penalize_repetition(scores_V, [*prompt_ids, *output_ids], sampling.repetition_penalty)
    scores_V = penalize_output(scores_V, output_ids, sampling.presence_penalty, sampling.frequency_penalty)
    if sampling.ignore_eos or len(output_ids) < sampling.min_new_tokens:
        scores_V[eos_token_id] = -np.inf
    if sampling.temperature == 0:
        return np.eye(len(scores_V))[np.argmax(scores_V)]
    scores_V = keep_top_k(scores_V, sampling.top_k)
    scores_V = keep_top_p(scores_V, sampling.top_p, sampling.temperature)
    scores_V = keep_min_p(scores_V, sampling.min_p, sampling.temperature)
    scores_V = keep_typical(scores_V, sampling.typical_p, sampling.temperature)
    return softmax(scores_V, sampling.temperature)


def penalize_repetition(scores_V: Floats, seen_ids: Sequence[int], penalty: float) -> Floats:
    """Make tokens of prompt and output less likely.

    Reference: Keskar et al. 2019, "CTRL", arXiv 1909.05858, section 4.1; dividing a score only where it is positive
    is transformers'.
    """
    scores_V = scores_V.copy()
    for token_id in set(seen_ids):
        score = scores_V[token_id]
        scores_V[token_id] = score / penalty if score > 0 else score * penalty
    return scores_V


def penalize_output(scores_V: Floats, output_ids: Sequence[int], presence: float, frequency: float) -> Floats:
    """Take `presence` from tokens that were drawn before, and `frequency` for each time, as OpenAI's API defines it."""
    scores_V = scores_V.copy()
    for token_id in output_ids:
        scores_V[token_id] -= frequency
    for token_id in set(output_ids):
        scores_V[token_id] -= presence
    return scores_V


def keep_top_k(scores_V: Floats, top_k: int) -> Floats:
    """Keep the k likeliest tokens, and those as likely as the last of them; 0 keeps all."""
    if not 0 < top_k < len(scores_V):
        return scores_V
    return np.where(scores_V >= np.sort(scores_V)[-top_k], scores_V, -np.inf)


def keep_top_p(scores_V: Floats, top_p: float, temperature: float) -> Floats:
    """Keep the likeliest tokens, of equals those with lower ids, until they hold this probability together.

    Reference: Holtzman et al. 2020, arXiv 1904.09751, section 3.1.
    """
    if top_p == 1:
        return scores_V
    order = np.argsort(-scores_V, kind="stable")
    sorted_probs = softmax(scores_V, temperature)[order]
    mass_before = np.cumsum(sorted_probs) - sorted_probs
    kept_V = scores_V.copy()
    kept_V[order[mass_before >= top_p]] = -np.inf
    return kept_V


def keep_min_p(scores_V: Floats, min_p: float, temperature: float) -> Floats:
    """Keep tokens at least this likely relative to the likeliest.

    Reference: Nguyen et al. 2024, arXiv 2407.01082, section 3.
    """
    if min_p == 0:
        return scores_V
    probs_V = softmax(scores_V, temperature)
    return np.where(probs_V >= min_p * probs_V.max(), scores_V, -np.inf)


def keep_typical(scores_V: Floats, typical_p: float, temperature: float) -> Floats:
    """Keep tokens whose surprise is nearest to the expected one, until they hold this probability together.

    Reference: Meister et al. 2023, "Locally Typical Sampling", arXiv 2202.00666, section 4.
    """
    if typical_p == 1:
        return scores_V
    probs_V = softmax(scores_V, temperature)
    possible = probs_V > 0
    surprises_V = np.full(len(scores_V), np.inf)
    surprises_V[possible] = -np.log(probs_V[possible])
    entropy = float((probs_V[possible] * surprises_V[possible]).sum())
    distances_V = np.abs(surprises_V - entropy)
    order = np.argsort(distances_V, kind="stable")
    last = min(int((np.cumsum(probs_V[order]) < typical_p).sum()), len(order) - 1)
    return np.where(distances_V <= distances_V[order[last]], scores_V, -np.inf)


def softmax(scores_V: Floats, temperature: float) -> Floats:
    """Return exp(scores / temperature) normalised to sum to 1."""
    weights_V = np.exp((scores_V - scores_V.max()) / temperature)
    return weights_V / weights_V.sum()
