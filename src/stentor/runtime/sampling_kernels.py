"""The distribution of the next token in a few microseconds; `sampling_reference` says what it is.

Nothing is sorted but the few tokens around the border of what is kept. Tokens are ordered by their scores (logits
after the penalties), never by their weights exp((score - highest) / temperature), in which different scores may meet.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stentor.compiled import Int, inlined, kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NO_WEIGHT = 700.0
"""Nats below the likeliest token from where a weight is 0; exp would be 1e-304."""
FEW = 32
"""So many tokens are sorted; more are first divided into those above and below their mean."""
_ROUND = 1.5 * 2.0**52
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_TAYLOR = tuple(1 / math.factorial(power) for power in range(13))


@kernel
def penalize(
    scores_V: Floats,
    bias_ids: Ints,
    biases: Floats,
    seen_ids: Ints,
    num_seen: int,
    output_counts_V: Ints,
    repetition: float,
    presence: float,
    frequency: float,
    forbidden_id: int,
) -> None:
    """Change the scores of the tokens that a bias, a penalty or a ban names, in this order.

    Args:
        scores_V: logits, changed in place.
        bias_ids: tokens that have a bias.
        biases: added to their logits.
        seen_ids: each token of prompt and output once, in its first `num_seen` places.
        num_seen: how many there are.
        output_counts_V: how often each token is in the output.
        repetition: divides positive scores of tokens seen and multiplies the others.
        presence: taken from the score of every token of the output.
        frequency: taken from it once for each time that it is there.
        forbidden_id: a token that must not be drawn; -1 for none.
    """
    for index in range(bias_ids.size):
        scores_V[bias_ids[index]] += biases[index]
    for index in range(num_seen):
        token_id = seen_ids[index]
        score = scores_V[token_id]
        # The lower of the two for a penalty above 1: asking for the sign is a branch that is often guessed wrong.
        divided, multiplied = score / repetition, score * repetition
        scores_V[token_id] = min(divided, multiplied) if repetition > 1 else max(divided, multiplied)
    if presence != 0 or frequency != 0:
        for index in range(num_seen):
            count = output_counts_V[seen_ids[index]]
            if count:
                scores_V[seen_ids[index]] -= frequency * count + presence
    if forbidden_id >= 0:
        scores_V[forbidden_id] = -np.inf


@kernel
def fill_probs(
    scores_V: Floats, temperature: float, top_k: int, top_p: float, min_p: float, typical_p: float, probs_V: Floats
) -> bool:
    """Fill in the probabilities of the tokens that the settings keep; False where no token may be drawn."""
    highest = _highest(scores_V, 0, scores_V.size)
    if highest == -np.inf:
        return False
    if temperature == 0:
        first = 0
        while scores_V[first] < highest:
            first += 1
        probs_V[:] = 0
        probs_V[first] = 1
        return True
    _weigh(scores_V, highest, 1 / temperature, probs_V)
    lowest = highest - NO_WEIGHT * temperature
    if 0 < top_k < scores_V.size:
        floor = _lowest_of_maxima(scores_V, top_k)
        border, _ = _border(scores_V, np.ones(scores_V.size), float(top_k), max(floor, lowest))
        _keep_above(scores_V, probs_V, border, scores_V.size)
    if top_p < 1:
        total = _sum(probs_V)
        # Even if all tokens were less likely than this, they would hold less than 1 - top_p.
        floor = highest + temperature * math.log((1 - top_p) * total / scores_V.size)
        border, num_kept = _border(scores_V, probs_V, top_p * total, max(floor, lowest))
        _keep_above(scores_V, probs_V, border, num_kept)
    if min_p > 0:
        for token_id in range(probs_V.size):  # the likeliest weighs 1
            probs_V[token_id] = probs_V[token_id] if probs_V[token_id] >= min_p else 0.0
    if typical_p < 1:
        _keep_typical(scores_V, probs_V, highest, 1 / temperature, typical_p)
    scale = 1 / _sum(probs_V)
    for token_id in range(probs_V.size):
        probs_V[token_id] *= scale
    return True


@kernel
def drawn(probs_V: Floats, uniform: float) -> int:
    """Return the first token up to which the probabilities sum to more than a number from [0, 1)."""
    cumulative, last = 0.0, 0
    for token_id in range(probs_V.size):
        if probs_V[token_id] > 0:
            last = token_id
            cumulative += probs_V[token_id]
            if cumulative > uniform:
                break
    return last


@inlined
def _exp(x: float) -> float:
    """Return exp(x), to two units in the last place, without a branch or a call: a loop over it uses vectors."""
    shifted = x * 1.4426950408889634 + _ROUND  # its last bits are round(x / ln 2)
    power = shifted - _ROUND
    rest = x - power * _LN2_HIGH - power * _LN2_LOW
    series = _TAYLOR[12]
    series = series * rest + _TAYLOR[11]
    series = series * rest + _TAYLOR[10]
    series = series * rest + _TAYLOR[9]
    series = series * rest + _TAYLOR[8]
    series = series * rest + _TAYLOR[7]
    series = series * rest + _TAYLOR[6]
    series = series * rest + _TAYLOR[5]
    series = series * rest + _TAYLOR[4]
    series = series * rest + _TAYLOR[3]
    series = series * rest + _TAYLOR[2]
    series = series * rest + 1.0
    series = series * rest + 1.0
    exponent = np.float64(shifted).view(np.int64) << 52
    return np.int64(np.float64(series).view(np.int64) + exponent).view(np.float64)


@kernel
def _weigh(scores_V: Floats, highest: float, inverse_temperature: float, weights_V: Floats) -> None:
    for token_id in range(scores_V.size):
        x = (scores_V[token_id] - highest) * inverse_temperature
        weight = _exp(max(x, -NO_WEIGHT))
        weights_V[token_id] = weight if x > -NO_WEIGHT else 0.0


@kernel
def _highest(values: Floats, start: int, stop: int) -> float:
    """Return the maximum of a stretch; four chains of comparisons do not wait for each other."""
    a = b = c = d = -np.inf
    whole = stop - (stop - start) % 4
    for index in range(start, whole, 4):
        a = values[index] if values[index] > a else a
        b = values[index + 1] if values[index + 1] > b else b
        c = values[index + 2] if values[index + 2] > c else c
        d = values[index + 3] if values[index + 3] > d else d
    for index in range(whole, stop):
        a = values[index] if values[index] > a else a
    return max(max(a, b), max(c, d))


@kernel
def _lowest_of_maxima(values: Floats, count: int) -> float:
    """Return a number that at least `count` values reach: the lowest of the maxima of so many stretches."""
    lowest, size = np.inf, values.size // count
    for start in range(0, count * size, size):
        lowest = min(lowest, _highest(values, start, start + size))
    return lowest


@kernel
def _sum(values: Floats) -> float:
    """Return the sum, as four sums that do not wait for each other."""
    a = b = c = d = 0.0
    whole = values.size & ~3
    for index in range(0, whole, 4):
        a += values[index]
        b += values[index + 1]
        c += values[index + 2]
        d += values[index + 3]
    for index in range(whole, values.size):
        a += values[index]
    return (a + b) + (c + d)


@kernel
def _border(keys_V: Floats, masses_V: Floats, wanted: float, floor: float) -> tuple[float, Int]:
    """Find where the tokens with the highest keys first hold a mass.

    Args:
        keys_V: order of the tokens.
        masses_V: what each of them holds.
        wanted: mass that those kept hold at least.
        floor: no token with a lower key is needed for that.

    Returns:
        The lowest key kept, and how many of the tokens that have exactly this key are needed.
    """
    keys, masses = np.empty(keys_V.size), np.empty(keys_V.size)
    size = 0
    for token_id in range(keys_V.size):
        keys[size], masses[size] = keys_V[token_id], masses_V[token_id]
        size += keys_V[token_id] >= floor
    upper_keys, upper_masses = np.empty(size), np.empty(size)
    above = 0.0
    while size > FEW:
        num_upper = _divide(keys[:size], masses[:size], upper_keys, upper_masses)
        mass = _sum(upper_masses[:num_upper])
        is_stuck = num_upper in (0, size)  # keys so close together that their mean is rounded to, or beyond, one
        if num_upper == size or above + mass >= wanted:
            keys, upper_keys = upper_keys, keys
            masses, upper_masses = upper_masses, masses
            size = num_upper
        else:
            above += mass
            size -= num_upper
        if is_stuck:
            break
    return _border_of_few(keys[:size], masses[:size], wanted - above)


@kernel
def _divide(keys: Floats, masses: Floats, upper_keys: Floats, upper_masses: Floats) -> Int:
    """Move what lies above the mean of the keys elsewhere, close the gaps, and return how many were moved."""
    pivot = _sum(keys) / keys.size
    num_upper = num_lower = 0
    for index in range(keys.size):
        key, mass = keys[index], masses[index]
        upper_keys[num_upper], upper_masses[num_upper] = key, mass
        keys[num_lower], masses[num_lower] = key, mass
        num_upper += key > pivot
        num_lower += key <= pivot
    return num_upper


@kernel
def _border_of_few(keys: Floats, masses: Floats, wanted: float) -> tuple[float, Int]:
    cumulative, border, num_kept = 0.0, math.inf, 0
    order = np.argsort(-keys, kind="mergesort")
    for rank in range(order.size):
        index = order[rank]
        num_kept = num_kept + 1 if keys[index] == border else 1
        border = float(keys[index])
        cumulative += masses[index]
        if cumulative >= wanted:
            break
    return border, num_kept


@kernel
def _keep_above(keys_V: Floats, weights_V: Floats, border: float, num_kept: Int) -> None:
    """Take the weight from tokens below a border, and from all but the first few that lie on it."""
    num_on_border = 0
    for token_id in range(keys_V.size):
        num_on_border += keys_V[token_id] == border
        weights_V[token_id] = weights_V[token_id] if keys_V[token_id] >= border else 0.0
    if num_on_border > num_kept:
        for token_id in range(keys_V.size):
            if keys_V[token_id] == border:
                weights_V[token_id] = weights_V[token_id] if num_kept > 0 else 0.0
                num_kept -= 1


@kernel
def _keep_typical(
    scores_V: Floats, weights_V: Floats, highest: float, inverse_temperature: float, typical_p: float
) -> None:
    """Keep the tokens whose surprise is nearest to the expected one."""
    total = _sum(weights_V)
    log_total = math.log(total)
    surprises_V, shares_V = np.empty(scores_V.size), np.empty(scores_V.size)
    for token_id in range(scores_V.size):
        x = (scores_V[token_id] - highest) * inverse_temperature
        surprises_V[token_id] = log_total - max(x, -NO_WEIGHT)
        shares_V[token_id] = weights_V[token_id] * surprises_V[token_id]
    entropy = _sum(shares_V) / total
    keys_V = np.empty(scores_V.size)
    for token_id in range(scores_V.size):
        keys_V[token_id] = -abs(surprises_V[token_id] - entropy)
        shares_V[token_id] = weights_V[token_id] * keys_V[token_id]
    # Markov's inequality: tokens farther away than this hold at most 1 - typical_p; doubled, rounding cannot matter.
    floor = 2 * _sum(shares_V) / total / (1 - typical_p)
    border, _ = _border(keys_V, weights_V, typical_p * total, floor)
    _keep_above(keys_V, weights_V, border, scores_V.size)
