"""Causal attention in blocks that stay in the cache: torch's products, and between them one pass over each block.

A block of scores is made by one product, turned into probabilities in its place, and read by the next; what lies above
the diagonal is never made, but for the blocks on it. The backward pass makes them again from the logarithm of each
row's sum. Products write what they are asked to read: scores are rounded to the type of queries.
Shapes: S key tokens.

Reference: Dao 2023, "FlashAttention-2", arXiv 2307.08691, section 3.1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stentor.model.kernels_cpu.compiled import (
    SMALLEST_INTEGER,
    bits,
    cpu_kernel,
    exp,
    from_ordered,
    ordered,
    read,
    rounded,
)
from stentor.model.kernels_cpu.threads import over_blocks

_TOKENS = 256
"""Of a block of scores: its rows or its columns."""
_PAIRS = 2
"""Pairs of a sequence and a head whose blocks are taken together: two blocks fill 1 MiB of a core's cache."""


def attend_forward(q_PTH: Tensor, k_PTH: Tensor, v_PTH: Tensor) -> tuple[Tensor, Tensor]:
    """Return what each token attends to [P, T, H], and the logarithm of the sum of each row of exp(scores) [P, T].

    Args:
        q_PTH: contiguous, like the others.
        k_PTH: of as many pairs.
        v_PTH: likewise.
    """
    out_PTH, log_sums_PT = torch.empty_like(q_PTH), torch.empty(q_PTH.shape[:2])
    parts = [x.detach().split(_PAIRS) for x in (q_PTH, k_PTH, v_PTH, out_PTH, log_sums_PT)]
    over_blocks(lambda part: _attend(*(x[part] for x in parts)), len(parts[0]))
    return out_PTH, log_sums_PT


def _attend(q_PTH: Tensor, k_PTH: Tensor, v_PTH: Tensor, out_PTH: Tensor, log_sums_PT: Tensor) -> None:
    """Take a few pairs on one thread, on which torch's products stay too."""
    pairs, tokens, head_dim = q_PTH.shape
    scale = np.float32(head_dim**-0.5)
    space = q_PTH.new_empty(pairs * min(_TOKENS, tokens) * tokens)
    for start in range(0, tokens, _TOKENS):
        end = min(start + _TOKENS, tokens)
        scores_PTS = _beginning(space, pairs, end - start, end)
        torch.bmm(q_PTH[:, start:end], k_PTH[:, :end].mT, out=scores_PTS)
        _softmax(bits(scores_PTS), bits(log_sums_PT), start, scale)
        out_PTH[:, start:end] = torch.bmm(scores_PTS, v_PTH[:, :end])


def _beginning(space: Tensor, *shape: int) -> Tensor:
    """Return the beginning of some memory as a tensor."""
    return space[: math.prod(shape)].view(shape)


@cpu_kernel
def _softmax(scores: Any, log_sums: Any, start: int, scale: Any) -> None:
    """Turn the scores of queries from `start` on into probabilities."""
    pairs, num_queries, width = scores.shape
    powers = np.empty(width, dtype=np.float32)
    for number in range(pairs * num_queries):
        pair, query = number // num_queries, number % num_queries
        row, limit = scores[pair, query], start + query + 1
        largest_as_integer = SMALLEST_INTEGER
        for column in range(limit):
            largest_as_integer = max(largest_as_integer, ordered(read(row[column])))
        largest, total = from_ordered(largest_as_integer), np.float32(0.0)
        for column in range(limit):
            power = exp((read(row[column]) - largest) * scale)
            powers[column] = power
            total += power
        log_sums[pair, start + query] = np.float32(math.log(total)) + largest * scale
        weight = np.float32(1.0) / total
        for column in range(limit):
            row[column] = rounded(powers[column] * weight, scores)
        for column in range(limit, width):
            row[column] = rounded(np.float32(0.0), scores)


def attend_backward(
    q_PTH: Tensor, k_PTH: Tensor, v_PTH: Tensor, log_sums_PT: Tensor, grad_PTH: Tensor, inner_PT: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys and values [P, T, H].

    Args:
        q_PTH: as in the forward pass, like all that is not named here.
        k_PTH: see there.
        v_PTH: see there.
        log_sums_PT: from the forward pass.
        grad_PTH: of what it returned, contiguous.
        inner_PT: the product of that and what it returned, summed over H.
    """
    grads = torch.empty_like(q_PTH), torch.empty_like(q_PTH), torch.empty_like(q_PTH)
    given = (q_PTH, k_PTH, v_PTH, log_sums_PT, grad_PTH, inner_PT)
    parts = [x.detach().split(_PAIRS) for x in (*given, *grads)]
    over_blocks(lambda part: _attend_backward(*(x[part] for x in parts)), len(parts[0]))
    return grads


def _attend_backward(
    q_PTH: Tensor,
    k_PTH: Tensor,
    v_PTH: Tensor,
    log_sums_PT: Tensor,
    grad_PTH: Tensor,
    inner_PT: Tensor,
    q_grad_PTH: Tensor,
    k_grad_PTH: Tensor,
    v_grad_PTH: Tensor,
) -> None:
    """Take a few pairs on one thread, column after column of blocks."""
    pairs, tokens, head_dim = q_PTH.shape
    scale = np.float32(head_dim**-0.5)
    spaces = [q_PTH.new_empty(pairs * min(_TOKENS, tokens) * tokens) for _ in range(2)]
    q_sum_PTH = torch.zeros(q_PTH.shape)
    for start in range(0, tokens, _TOKENS):
        end = min(start + _TOKENS, tokens)
        q, grad, keys, values = q_PTH[:, start:], grad_PTH[:, start:], k_PTH[:, start:end], v_PTH[:, start:end]
        chances_PTS, score_grads_PTS = (_beginning(x, pairs, tokens - start, end - start) for x in spaces)
        torch.bmm(q, keys.mT, out=chances_PTS)
        torch.bmm(grad, values.mT, out=score_grads_PTS)
        rows = bits(log_sums_PT), bits(inner_PT)
        _softmax_backward(bits(chances_PTS), bits(score_grads_PTS), *rows, start, scale)
        v_grad_PTH[:, start:end] = torch.bmm(chances_PTS.mT, grad)
        k_grad_PTH[:, start:end] = torch.bmm(score_grads_PTS.mT, q)
        q_sum_PTH[:, start:] += torch.bmm(score_grads_PTS, keys)
    q_grad_PTH.copy_(q_sum_PTH)


@cpu_kernel
def _softmax_backward(chances: Any, score_grads: Any, log_sums: Any, inner: Any, start: int, scale: Any) -> None:
    """Turn scores into probabilities, and the gradient of these into that of the scores."""
    pairs, num_queries, width = chances.shape
    for number in range(pairs * num_queries):
        pair, query = number // num_queries, number % num_queries
        row, grads, limit = chances[pair, query], score_grads[pair, query], min(query + 1, width)
        log_sum, along = log_sums[pair, start + query], inner[pair, start + query]
        for column in range(limit):
            chance = exp(min(read(row[column]) * scale - log_sum, np.float32(0.0)))
            row[column] = rounded(chance, chances)
            grads[column] = rounded(chance * (read(grads[column]) - along) * scale, chances)
        for column in range(limit, width):
            row[column] = rounded(np.float32(0.0), chances)
            grads[column] = rounded(np.float32(0.0), chances)


def split_heads(out_PTH: Tensor, grad_BTE: Tensor) -> tuple[Tensor, Tensor]:
    """Return a gradient of merged heads as one of pairs [P, T, H], and its product with `out`, summed over H [P, T]."""
    pairs, tokens, _ = out_PTH.shape
    grad_PTH, inner_PT = torch.empty_like(out_PTH), torch.empty(pairs, tokens)
    arrays = bits(out_PTH), bits(grad_BTE), bits(grad_PTH), bits(inner_PT)
    over_blocks(lambda pair: _split_heads(*arrays, pair), pairs)
    return grad_PTH, inner_PT


@cpu_kernel
def _split_heads(out: Any, merged: Any, split: Any, inner: Any, pair: int) -> None:
    tokens, width = out.shape[1], out.shape[2]
    num_heads = merged.shape[2] // width
    sequence, head = pair // num_heads, pair % num_heads
    for token in range(tokens):
        total = np.float32(0.0)
        source, target, result = (
            merged[sequence, token, head * width : (head + 1) * width],
            split[pair, token],
            out[pair, token],
        )
        for place in range(width):
            target[place] = source[place]
            total += read(source[place]) * read(result[place])
        inner[pair, token] = total
