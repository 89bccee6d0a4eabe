"""Triton kernels for NVIDIA GPUs; `ops.py` decides when they run and holds what they must equal.

All of them are bound by memory: each reads its inputs once, computes in float32 and writes its outputs once.
Shapes: N tokens of a batch, D hidden, F feed-forward, V vocabulary, H head dim; P programs of a launch.
"""

# ruff: noqa: ANN001, ANN202 - Triton reads annotations as types of its own
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_IGNORED = tl.constexpr(-100)
_WARPS_OF_ROW = {8192: 8, 16_384: 16, 32_768: 32}
_NORM_ROWS, _NORM_PROGRAMS = 8, 528
"""Four programs for each of an H200's 132 multiprocessors sum the gain's gradient."""
_HEAD_TOKENS = 32
_SWIGLU_BLOCK = 1024


# --- cross-entropy ---------------------------------------------------------------------------------------------


def cross_entropy_in_place(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Return -ln p of each target, float32 [N], and replace the logits by their gradient.

    Args:
        logits_NV: contiguous; at most 32,768 columns.
        targets_N: int64; a target of -100 gives a loss and a gradient of zero.
    """
    num_rows, vocab_size = logits_NV.shape
    nats_N = torch.empty(num_rows, dtype=torch.float32, device=logits_NV.device)
    block = max(1024, triton.next_power_of_2(vocab_size))
    warps = _WARPS_OF_ROW.get(block, 4)
    _cross_entropy[(num_rows,)](logits_NV, targets_N, nats_N, vocab_size, BLOCK=block, num_warps=warps)
    return nats_N


@triton.jit
def _cross_entropy(logits, targets, nats, vocab_size, BLOCK: tl.constexpr):
    """Take one row: it is read once, and its gradient written over it."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    start = logits + row * vocab_size
    is_scored = target != _IGNORED
    chosen = tl.load(start + tl.where(is_scored, target, 0)).to(tl.float32)
    columns = tl.arange(0, BLOCK)
    inside = columns < vocab_size
    values = tl.load(start + columns, mask=inside, other=-float("inf")).to(tl.float32)
    largest = tl.max(values, axis=0)
    powers = tl.exp(values - largest)
    total = tl.sum(powers, axis=0)
    tl.store(nats + row, tl.where(is_scored, tl.log(total) + largest - chosen, 0.0))
    weight = tl.where(is_scored, 1.0 / total, 0.0)
    gradient = powers * weight - tl.where(is_scored & (columns == target), 1.0, 0.0)
    tl.debug_barrier()  # every thread has read the target's logit before any writes over it
    tl.store(start + columns, gradient.to(logits.dtype.element_ty), mask=inside)


# --- embedding -------------------------------------------------------------------------------------------------


def embed_forward(ids_N: Tensor, weight_VD: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the row of each id in `dtype` [N, D]."""
    out_ND = torch.empty(ids_N.numel(), weight_VD.shape[1], dtype=dtype, device=ids_N.device)
    width = weight_VD.shape[1]
    _embed[(ids_N.numel(),)](ids_N, weight_VD, out_ND, width, BLOCK=triton.next_power_of_2(width), num_warps=1)
    return out_ND


@triton.jit
def _embed(ids, weight, out, width, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    row = tl.load(weight + tl.load(ids + token) * width + columns, mask=columns < width, other=0.0)
    tl.store(out + token * width + columns, row.to(out.dtype.element_ty), mask=columns < width)


def embed_backward(ids_N: Tensor, out_grad_ND: Tensor, vocab_size: int) -> Tensor:
    """Return the gradient of the table, float32 [V, D]; its sums are made in no fixed order."""
    width = out_grad_ND.shape[1]
    grad_VD = torch.zeros(vocab_size, width, dtype=torch.float32, device=ids_N.device)
    _embed_backward[(ids_N.numel(),)](
        ids_N, out_grad_ND, grad_VD, width, BLOCK=triton.next_power_of_2(width), num_warps=1
    )
    return grad_VD


@triton.jit
def _embed_backward(ids, out_grad, grad, width, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    above = tl.load(out_grad + token * width + columns, mask=columns < width, other=0.0).to(tl.float32)
    tl.atomic_add(grad + tl.load(ids + token) * width + columns, above, mask=columns < width, sem="relaxed")


# --- residual sum and RMSNorm ----------------------------------------------------------------------------------


def add_rms_norm_forward(
    x_ND: Tensor, delta_ND: Tensor | None, gain_D: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x + delta, its RMSNorm in `dtype`, and 1 / RMS of each row, float32 [N]."""
    num_rows, width = x_ND.shape
    sum_ND = x_ND if delta_ND is None else torch.empty_like(x_ND)
    normed_ND = torch.empty(x_ND.shape, dtype=dtype, device=x_ND.device)
    inverse_N = torch.empty(num_rows, dtype=torch.float32, device=x_ND.device)
    _add_rms_norm[(triton.cdiv(num_rows, _NORM_ROWS),)](
        *(x_ND, x_ND if delta_ND is None else delta_ND, gain_D, sum_ND, normed_ND, inverse_N, num_rows, width, eps),
        ADDS=delta_ND is not None,
        ROWS=_NORM_ROWS,
        BLOCK=triton.next_power_of_2(width),
    )
    return sum_ND, normed_ND, inverse_N


@triton.jit
def _add_rms_norm(
    x, delta, gain, total, normed, inverse, num_rows, width, eps, ADDS: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    inside = (rows < num_rows)[:, None] & (columns < width)[None, :]
    place = rows[:, None] * width + columns[None, :]
    values = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        values += tl.load(delta + place, mask=inside, other=0.0).to(tl.float32)
        rounded = values.to(total.dtype.element_ty)
        tl.store(total + place, rounded, mask=inside)
        values = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, axis=1) / width + eps)
    tl.store(inverse + rows, scale, mask=rows < num_rows)
    gains = tl.load(gain + columns, mask=columns < width, other=0.0).to(tl.float32)
    result = values * scale[:, None] * gains[None, :]
    tl.store(normed + place, result.to(normed.dtype.element_ty), mask=inside)


def add_rms_norm_backward(
    sum_ND: Tensor,
    gain_D: Tensor,
    inverse_N: Tensor,
    sum_grad_ND: Tensor | None,
    normed_grad_ND: Tensor,
    *,
    learns_gain: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return the gradient of the sum (which is that of both its terms) and, if wanted, of the gain, float32 [D]."""
    num_rows, width = sum_ND.shape
    blocks = triton.cdiv(num_rows, _NORM_ROWS)
    programs = min(_NORM_PROGRAMS, blocks) if learns_gain else blocks
    grad_ND = torch.empty_like(sum_ND)
    gain_grads_PD = sum_ND.new_empty(programs if learns_gain else 1, width, dtype=torch.float32)
    upper = normed_grad_ND if sum_grad_ND is None else sum_grad_ND
    _add_rms_norm_backward[(programs,)](
        *(sum_ND, gain_D, inverse_N, upper, normed_grad_ND, grad_ND, gain_grads_PD, num_rows, width),
        ADDS=sum_grad_ND is not None,
        LEARNS=learns_gain,
        TURNS=triton.cdiv(blocks, programs),
        ROWS=_NORM_ROWS,
        BLOCK=triton.next_power_of_2(width),
    )
    return grad_ND, gain_grads_PD.sum(dim=0) if learns_gain else None


@triton.jit
def _add_rms_norm_backward(
    total, gain, inverse, total_grad, normed_grad, grad, gain_grads, num_rows, width, ADDS: tl.constexpr,
    LEARNS: tl.constexpr, TURNS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Take every P-th block of rows, so that each program sums the gain's gradient over many."""
    columns = tl.arange(0, BLOCK)
    gains = tl.load(gain + columns, mask=columns < width, other=0.0).to(tl.float32)
    summed = tl.zeros((ROWS, BLOCK), dtype=tl.float32)  # over its rows only at the end: that needs all threads
    for turn in range(TURNS):
        rows = (turn * tl.num_programs(0) + tl.program_id(0)).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = (rows < num_rows)[:, None] & (columns < width)[None, :]
        place = rows[:, None] * width + columns[None, :]
        scale = tl.load(inverse + rows, mask=rows < num_rows, other=0.0)
        unit = tl.load(total + place, mask=inside, other=0.0).to(tl.float32) * scale[:, None]
        above = tl.load(normed_grad + place, mask=inside, other=0.0).to(tl.float32)
        if LEARNS:
            summed += above * unit
        above = above * gains[None, :]
        along = tl.sum(above * unit, axis=1) / width
        result = (above - unit * along[:, None]) * scale[:, None]
        if ADDS:
            result += tl.load(total_grad + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(grad + place, result.to(grad.dtype.element_ty), mask=inside)
    if LEARNS:
        tl.store(gain_grads + tl.program_id(0) * width + columns, tl.sum(summed, axis=0), mask=columns < width)


# --- heads: normalised and rotated -----------------------------------------------------------------------------


def turn_heads_forward(
    qkv_NE: Tensor, cos_TH: Tensor, sin_TH: Tensor, gains_2H: Tensor | None, num_heads: tuple[int, int], eps: float
) -> tuple[Tensor, Tensor]:
    """Return queries [N, heads, H] and keys [N, key heads, H], normalised where there are gains, and rotated.

    Args:
        qkv_NE: queries, keys and values of each token, one behind the other.
        cos_TH: cosines of each position; token n is at position n % T.
        sin_TH: sines of each position.
        gains_2H: of queries and of keys, float32.
        num_heads: of queries, and of keys.
        eps: of the norm.
    """
    num_tokens, head_dim = qkv_NE.shape[0], cos_TH.shape[1]
    queries, keys = num_heads
    q_NNH = torch.empty(num_tokens, queries, head_dim, dtype=qkv_NE.dtype, device=qkv_NE.device)
    k_NKH = torch.empty(num_tokens, keys, head_dim, dtype=qkv_NE.dtype, device=qkv_NE.device)
    _turn_heads[(triton.cdiv(num_tokens, _HEAD_TOKENS), queries + keys)](
        *(qkv_NE, cos_TH, sin_TH, cos_TH if gains_2H is None else gains_2H, q_NNH, k_NKH),
        *(num_tokens, cos_TH.shape[0], qkv_NE.shape[1], queries, keys, eps),
        NORMS=gains_2H is not None,
        TOKENS=_HEAD_TOKENS,
        HALF=head_dim // 2,
    )
    return q_NNH, k_NKH


@triton.jit
def _turn_heads(
    qkv, cos, sin, gains, q, k, num_tokens, num_positions, width, queries, keys, eps, NORMS: tl.constexpr,
    TOKENS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Take one head of some tokens; the two halves of a head are what RoPE turns into each other."""
    tokens, head = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS), tl.program_id(1)
    lower = tl.arange(0, HALF)
    inside = (tokens < num_tokens)[:, None] & (lower < HALF)[None, :]
    place = qkv + tokens.to(tl.int64)[:, None] * width + head * 2 * HALF + lower[None, :]
    a = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(place + HALF, mask=inside, other=0.0).to(tl.float32)
    is_key = head >= queries
    if NORMS:
        scale = tl.rsqrt((tl.sum(a * a, axis=1) + tl.sum(b * b, axis=1)) / (2 * HALF) + eps)
        gain = gains + is_key * 2 * HALF + lower
        a = a * scale[:, None] * tl.load(gain)[None, :]
        b = b * scale[:, None] * tl.load(gain + HALF)[None, :]
    turn = (tokens % num_positions)[:, None] * 2 * HALF + lower[None, :]
    c, s = tl.load(cos + turn, mask=inside, other=0.0), tl.load(sin + turn, mask=inside, other=0.0)
    heads = tl.where(is_key, keys, queries)
    offset = (tokens.to(tl.int64)[:, None] * heads + tl.where(is_key, head - queries, head)) * 2 * HALF + lower[None, :]
    first, second = (a * c - b * s).to(qkv.dtype.element_ty), (b * c + a * s).to(qkv.dtype.element_ty)
    if is_key:
        tl.store(k + offset, first, mask=inside)
        tl.store(k + offset + HALF, second, mask=inside)
    else:
        tl.store(q + offset, first, mask=inside)
        tl.store(q + offset + HALF, second, mask=inside)


def turn_heads_backward(
    qkv_NE: Tensor,
    cos_TH: Tensor,
    sin_TH: Tensor,
    gains_2H: Tensor | None,
    grads: tuple[Tensor, Tensor, Tensor],
    eps: float,
    *,
    learns_gains: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return the gradient of queries, keys and values, merged again [N, E], and of the gains, float32 [2, H].

    Args:
        qkv_NE: as in the forward pass, like all that is not named here.
        cos_TH: see there.
        sin_TH: see there.
        gains_2H: see there.
        grads: of queries, keys and values [N, heads, H], contiguous.
        eps: of the norm.
        learns_gains: whether the gradient of the gains is wanted.
    """
    num_tokens, head_dim = qkv_NE.shape[0], cos_TH.shape[1]
    queries, keys = grads[0].shape[1], grads[1].shape[1]
    grad_NE = torch.empty_like(qkv_NE)
    blocks = triton.cdiv(num_tokens, _HEAD_TOKENS)
    summed_heads = queries + keys if learns_gains else 1
    gain_grads_PH = qkv_NE.new_empty(summed_heads, blocks, head_dim, dtype=torch.float32)
    _turn_heads_backward[(blocks, queries + 2 * keys)](
        *(qkv_NE, cos_TH, sin_TH, cos_TH if gains_2H is None else gains_2H, *grads, grad_NE, gain_grads_PH),
        *(num_tokens, cos_TH.shape[0], qkv_NE.shape[1], queries, keys, eps),
        NORMS=gains_2H is not None,
        LEARNS=learns_gains,
        TOKENS=_HEAD_TOKENS,
        HALF=head_dim // 2,
    )
    if not learns_gains:
        return grad_NE, None
    return grad_NE, torch.stack((gain_grads_PH[:queries].sum(dim=(0, 1)), gain_grads_PH[queries:].sum(dim=(0, 1))))


@triton.jit
def _turn_heads_backward(
    qkv, cos, sin, gains, q_grad, k_grad, v_grad, grad, gain_grads, num_tokens, num_positions, width, queries, keys,
    eps, NORMS: tl.constexpr, LEARNS: tl.constexpr, TOKENS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    tokens, head = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS), tl.program_id(1)
    lower = tl.arange(0, HALF)
    inside = (tokens < num_tokens)[:, None] & (lower < HALF)[None, :]
    rows = tokens.to(tl.int64)[:, None]
    place = rows * width + head * 2 * HALF + lower[None, :]
    if head < queries:
        above = q_grad + (rows * queries + head) * 2 * HALF + lower[None, :]
    elif head < queries + keys:
        above = k_grad + (rows * keys + head - queries) * 2 * HALF + lower[None, :]
    else:
        above = v_grad + (rows * keys + head - queries - keys) * 2 * HALF + lower[None, :]
    a = tl.load(above, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(above + HALF, mask=inside, other=0.0).to(tl.float32)
    if head < queries + keys:
        turn = (tokens % num_positions)[:, None] * 2 * HALF + lower[None, :]
        c, s = tl.load(cos + turn, mask=inside, other=0.0), tl.load(sin + turn, mask=inside, other=0.0)
        a, b = a * c + b * s, b * c - a * s
        if NORMS:
            x = tl.load(qkv + place, mask=inside, other=0.0).to(tl.float32)
            y = tl.load(qkv + place + HALF, mask=inside, other=0.0).to(tl.float32)
            scale = tl.rsqrt((tl.sum(x * x, axis=1) + tl.sum(y * y, axis=1)) / (2 * HALF) + eps)[:, None]
            x, y = x * scale, y * scale
            if LEARNS:
                sums = gain_grads + (head * tl.num_programs(0) + tl.program_id(0)) * 2 * HALF + lower
                tl.store(sums, tl.sum(a * x, axis=0))
                tl.store(sums + HALF, tl.sum(b * y, axis=0))
            gain = gains + (head >= queries) * 2 * HALF + lower
            a, b = a * tl.load(gain)[None, :], b * tl.load(gain + HALF)[None, :]
            along = ((tl.sum(a * x, axis=1) + tl.sum(b * y, axis=1)) / (2 * HALF))[:, None]
            a, b = (a - x * along) * scale, (b - y * along) * scale
    tl.store(grad + place, a.to(grad.dtype.element_ty), mask=inside)
    tl.store(grad + place + HALF, b.to(grad.dtype.element_ty), mask=inside)


# --- SwiGLU ----------------------------------------------------------------------------------------------------


def swiglu_forward(gate_up_NF: Tensor) -> Tensor:
    """Return silu(gate) * up [N, F / 2] of gate and up beside each other [N, F]."""
    num_rows, width = gate_up_NF.shape[0], gate_up_NF.shape[1] // 2
    out_NF = torch.empty(num_rows, width, dtype=gate_up_NF.dtype, device=gate_up_NF.device)
    _swiglu[(triton.cdiv(num_rows * width, _SWIGLU_BLOCK),)](
        gate_up_NF, out_NF, num_rows * width, width, BLOCK=_SWIGLU_BLOCK
    )
    return out_NF


@triton.jit
def _swiglu(gate_up, out, count, width, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    place = gate_up + index // width * 2 * width + index % width
    gate = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(place + width, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + index, (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty), mask=inside)


def swiglu_backward(gate_up_NF: Tensor, out_grad_NF: Tensor) -> Tensor:
    """Return the gradient of gate and up beside each other [N, F]."""
    grad_NF = torch.empty_like(gate_up_NF)
    count, width = out_grad_NF.numel(), out_grad_NF.shape[1]
    _swiglu_backward[(triton.cdiv(count, _SWIGLU_BLOCK),)](
        gate_up_NF, out_grad_NF, grad_NF, count, width, BLOCK=_SWIGLU_BLOCK
    )
    return grad_NF


@triton.jit
def _swiglu_backward(gate_up, out_grad, grad, count, width, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    place = index // width * 2 * width + index % width
    gate = tl.load(gate_up + place, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + place + width, mask=inside, other=0.0).to(tl.float32)
    above = tl.load(out_grad + index, mask=inside, other=0.0).to(tl.float32)
    sigmoid = tl.sigmoid(gate)
    silu = gate * sigmoid
    tl.store(grad + place, (above * up * (sigmoid + silu * (1 - sigmoid))).to(grad.dtype.element_ty), mask=inside)
    tl.store(grad + place + width, (above * silu).to(grad.dtype.element_ty), mask=inside)
