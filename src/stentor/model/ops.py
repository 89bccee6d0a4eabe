"""Operations of the network, each once in plain torch and once as a fused kernel for NVIDIA GPUs with its gradient.

The plain one defines what is computed and runs everywhere; `fuses` says where the other takes its place. What a
network of this size spends on a GPU is mostly the passing of memory, so every fused one reads and writes each tensor
once. Shapes: B batch, T tokens, N tokens of a batch in all, D hidden, E merged heads, F feed-forward, V vocabulary,
H head dim.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stentor.model.products import beside

IGNORED_LABEL = -100
MAX_FUSED_VOCAB_SIZE, MAX_FUSED_HIDDEN_SIZE = 32_768, 4096
"""Longer rows do not fit the registers of one block of threads."""
_OLDEST_CAPABILITY = (7, 5)
"""A T4; Triton compiles for nothing older."""


def fuses(compute_dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the fused kernels serve: products in 16 bits on an NVIDIA GPU that Triton knows."""
    if compute_dtype not in (torch.bfloat16, torch.float16) or device.type != "cuda" or torch.version.hip:
        return False
    return torch.cuda.get_device_capability(device) >= _OLDEST_CAPABILITY


# --- embedding -------------------------------------------------------------------------------------------------


def embed(ids_BT: Tensor, weight_VD: Tensor, *, dtype: torch.dtype, fused: bool) -> Tensor:
    """Return the row of each id [B, T, D] in `dtype`.

    The kernel adds up the rows' gradients in no fixed order; where torch is told to be deterministic, the plain way is
    taken.
    """
    if fused and not torch.are_deterministic_algorithms_enabled():
        return _Embed.apply(ids_BT, weight_VD, dtype)
    return F.embedding(ids_BT, weight_VD).to(dtype)


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids_BT: Tensor, weight_VD: Tensor, dtype: torch.dtype) -> Tensor:
        from stentor.model.kernels.embedding import embed_forward

        ctx.save_for_backward(ids_BT)
        ctx.vocab_size = weight_VD.shape[0]
        return embed_forward(ids_BT.flatten(), weight_VD, dtype).unflatten(0, ids_BT.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        from stentor.model.kernels.embedding import embed_backward

        (ids_BT,) = ctx.saved_tensors
        return None, embed_backward(ids_BT.flatten(), grads[0].flatten(0, 1).contiguous(), ctx.vocab_size), None


# --- residual sum and RMSNorm ----------------------------------------------------------------------------------


def add_rms_norm(
    x_BTD: Tensor, delta_BTD: Tensor | None, gain: Tensor, *, eps: float, dtype: torch.dtype, fused: bool
) -> tuple[Tensor, Tensor]:
    """Return x + delta, and its RMSNorm in `dtype`.

    Args:
        x_BTD: what flows between layers.
        delta_BTD: what a layer adds to it; None adds nothing.
        gain: of the norm, from `norm_gains`.
        eps: of the norm.
        dtype: of the product that the norm feeds.
        fused: use the kernel.

    Reference: Zhang and Sennrich 2019, "RMSNorm", arXiv 1910.07467, eq. 4.
    """
    if _fuses_norm(x_BTD, fused=fused):
        return _AddRmsNorm.apply(x_BTD, delta_BTD, gain, eps, dtype)
    sum_BTD = x_BTD if delta_BTD is None else x_BTD + delta_BTD
    return sum_BTD, rms_norm(sum_BTD, gain, eps).to(dtype)


def norm_gains(stacked_LD: Tensor, *, fused: bool) -> tuple[Tensor, ...]:
    """Return the gain of each layer as `add_rms_norm` takes it.

    For the kernel that is [P, D], the same row for each program it runs: each leaves its own sum as its row's gradient,
    and autograd adds up those of all layers at once.
    """
    if not _fuses_norm(stacked_LD, fused=fused):
        return stacked_LD.unbind()
    from stentor.model.kernels.add_rms_norm import NORM_PROGRAMS

    return stacked_LD[:, None].expand(-1, NORM_PROGRAMS, -1).unbind()


def _fuses_norm(x: Tensor, *, fused: bool) -> bool:
    return fused and x.shape[-1] <= MAX_FUSED_HIDDEN_SIZE


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """Divide by the root of the mean square over the last dimension, and multiply by a gain."""
    return F.rms_norm(x, (x.shape[-1],), gain.to(x.dtype), eps)


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, delta: Tensor | None, gains_PD: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        from stentor.model.kernels.add_rms_norm import add_rms_norm_forward

        rows = (x.flatten(0, -2), None if delta is None else delta.flatten(0, -2).to(x.dtype))
        sum_ND, normed_ND, inverse_N = add_rms_norm_forward(*rows, gains_PD[0], eps, dtype)
        ctx.save_for_backward(sum_ND, gains_PD, inverse_N)
        ctx.has_delta, ctx.delta_dtype = delta is not None, delta.dtype if delta is not None else None
        ctx.set_materialize_grads(False)
        total = x.view_as(x) if delta is None else sum_ND.view(x.shape)
        return total, normed_ND.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        from stentor.model.kernels.add_rms_norm import add_rms_norm_backward

        sum_grad, normed_grad = grads
        assert normed_grad is not None, "a norm whose result nothing uses"
        sum_ND, gains_PD, inverse_N = ctx.saved_tensors
        upper_ND = None if sum_grad is None else sum_grad.flatten(0, -2).contiguous()
        grad_ND, gain_grads_PD = add_rms_norm_backward(
            *(sum_ND, gains_PD[0], inverse_N, upper_ND, normed_grad.flatten(0, -2).contiguous()),
            learns_gain=ctx.needs_input_grad[2],
        )
        grad = grad_ND.view(normed_grad.shape)
        return grad, grad.to(ctx.delta_dtype) if ctx.has_delta else None, gain_grads_PD, None, None


# --- heads: normalised and rotated -----------------------------------------------------------------------------


def turn_heads(
    qkv_BTE: Tensor,
    rotary: tuple[Tensor, Tensor],
    gains: tuple[Tensor, Tensor] | None,
    *,
    num_heads: tuple[int, int],
    eps: float,
    fused: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take queries, keys and values apart; normalise the former two per head where there are gains, and rotate them.

    Args:
        qkv_BTE: queries, keys and values of each token, one behind the other.
        rotary: cosines and sines [T, H] of the tokens' positions.
        gains: of queries and of keys, from `head_gains`, or None for a network without these norms.
        num_heads: of queries, and of keys.
        eps: of the norm.
        fused: use the kernel.

    Returns:
        Queries [B, N, T, H], keys and values [B, K, T, H].

    Reference: Su et al. 2021, "RoFormer" (RoPE), arXiv 2104.09864, eq. 34.
    """
    queries, keys = num_heads
    head_dim = rotary[0].shape[-1]
    if _fuses_heads(head_dim, fused=fused):
        return _TurnHeads.apply(qkv_BTE, *rotary, *(gains or (None, None)), num_heads, eps)
    heads_BTNH = qkv_BTE.unflatten(-1, (-1, head_dim))
    q_BTNH, k_BTKH, v_BTKH = heads_BTNH.split((queries, keys, keys), dim=2)
    if gains is not None:
        q_BTNH, k_BTKH = rms_norm(q_BTNH, gains[0], eps), rms_norm(k_BTKH, gains[1], eps)
    q_BTNH, k_BTKH = (rotate(x_BTNH, *rotary).to(qkv_BTE.dtype) for x_BTNH in (q_BTNH, k_BTKH))
    return q_BTNH.transpose(1, 2), k_BTKH.transpose(1, 2), v_BTKH.transpose(1, 2)


def head_gains(stacked_LH: Tensor, num_heads: int, *, fused: bool) -> tuple[Tensor, ...]:
    """Return the gain of each layer as `turn_heads` takes it: for the kernel [P, H], see `norm_gains`."""
    if not _fuses_heads(stacked_LH.shape[-1], fused=fused):
        return stacked_LH.unbind()
    from stentor.model.kernels.turn_heads import HEAD_PROGRAMS

    return stacked_LH[:, None].expand(-1, num_heads * HEAD_PROGRAMS, -1).unbind()


def _fuses_heads(head_dim: int, *, fused: bool) -> bool:
    return fused and head_dim & (head_dim - 1) == 0


def rotate(x_BTNH: Tensor, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
    """Rotate each pair (i, i + H/2) by its position's angle."""
    first, second = x_BTNH.chunk(2, dim=-1)
    return x_BTNH * cos_TH[:, None] + torch.cat((-second, first), dim=-1) * sin_TH[:, None]


class _TurnHeads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        qkv_BTE: Tensor,
        cos_TH: Tensor,
        sin_TH: Tensor,
        q_gains_PH: Tensor | None,
        k_gains_PH: Tensor | None,
        num_heads: tuple[int, int],
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        from stentor.model.kernels.turn_heads import turn_heads_forward

        batch, tokens, _ = qkv_BTE.shape
        queries, keys = num_heads
        flat_NE = qkv_BTE.flatten(0, 1)
        gains = (q_gains_PH[0], k_gains_PH[0]) if q_gains_PH is not None and k_gains_PH is not None else None
        turned = turn_heads_forward(flat_NE, cos_TH, sin_TH, gains, num_heads, eps)
        ctx.save_for_backward(flat_NE, cos_TH, sin_TH, *(gains or ()))
        ctx.eps = eps
        head_dim = cos_TH.shape[1]
        v_BTKH = qkv_BTE[..., (queries + keys) * head_dim :].unflatten(-1, (keys, head_dim))
        q_BTNH, k_BTKH = (x.view(batch, tokens, -1, head_dim) for x in turned)
        return q_BTNH.transpose(1, 2), k_BTKH.transpose(1, 2), v_BTKH.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from stentor.model.kernels.turn_heads import turn_heads_backward

        flat_NE, cos_TH, sin_TH, *gains = ctx.saved_tensors
        batch, _, tokens, _ = grads[0].shape
        q_grad, k_grad, v_grad = (grad.transpose(1, 2).contiguous().flatten(0, 1) for grad in grads)
        grad_NE, gain_grads = turn_heads_backward(
            *(flat_NE, cos_TH, sin_TH, tuple(gains) or None, (q_grad, k_grad, v_grad), ctx.eps),
            learns_gains=ctx.needs_input_grad[3],
        )
        return grad_NE.view(batch, tokens, -1), None, None, *gain_grads, None, None


# --- SwiGLU ----------------------------------------------------------------------------------------------------


def swiglu(gate_up_BTF: Tensor, *, fused: bool) -> Tensor:
    """Return silu(gate) * up [B, T, F / 2] of gate and up beside each other.

    Reference: Shazeer 2020, "GLU Variants Improve Transformer", arXiv 2002.05202, eq. 5.
    """
    if fused:
        return _Swiglu.apply(gate_up_BTF)
    gate_BTF, up_BTF = gate_up_BTF.chunk(2, dim=-1)
    return F.silu(gate_BTF) * up_BTF


class _Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        from stentor.model.kernels.swiglu import swiglu_forward

        ctx.save_for_backward(gate_up)
        return swiglu_forward(gate_up.flatten(0, -2)).unflatten(0, gate_up.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        from stentor.model.kernels.swiglu import swiglu_backward

        (gate_up,) = ctx.saved_tensors
        return swiglu_backward(gate_up.flatten(0, -2), grads[0].flatten(0, -2).contiguous()).view(gate_up.shape)


# --- head and cross-entropy ------------------------------------------------------------------------------------


def linear_cross_entropy(x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, fused: bool) -> Tensor:
    """Return the summed -ln p of targets under logits x @ weight.T, a float32 scalar.

    The logits are the largest tensor of a step. The fused way writes them once, by the product; a kernel reads them
    once and puts their gradient in their place; the products of the backward pass read that.

    Args:
        x_ND: hidden states.
        weight_VD: the head, of the same type, from `products.unstacked`.
        targets_N: int64; -100 is ignored.
        fused: use the kernel.
    """
    if fused and weight_VD.shape[0] <= MAX_FUSED_VOCAB_SIZE:
        return _LinearCrossEntropy.apply(x_ND, weight_VD, targets_N)
    logits_NV = F.linear(x_ND, weight_VD).float()
    return F.cross_entropy(logits_NV, targets_N, ignore_index=IGNORED_LABEL, reduction="sum")


class _LinearCrossEntropy(torch.autograd.Function):
    """The gradient of the logits is made in the forward pass; the loss's own gradient scales what comes of it."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
        from stentor.model.kernels.cross_entropy import cross_entropy_in_place

        logits_NV = x_ND @ weight_VD.T
        nats_N = cross_entropy_in_place(logits_NV, targets_N)
        ctx.save_for_backward(x_ND, weight_VD, logits_NV)
        return nats_N.sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x_ND, weight_VD, logits_grad_NV = ctx.saved_tensors
        return *_factor_grads(x_ND, weight_VD, logits_grad_NV, grads[0]), None


def _factor_grads(x_ND: Tensor, weight_VD: Tensor, logits_grad_NV: Tensor, loss_grad: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the two factors of logits."""
    scale = loss_grad.to(x_ND.dtype)
    weight_grad_VD = beside(lambda grad_NV, x_ND, scale: (grad_NV.T @ x_ND) * scale, logits_grad_NV, x_ND, scale)
    return (logits_grad_NV @ weight_VD) * scale, weight_grad_VD


# --- head and distillation -------------------------------------------------------------------------------------


def linear_distillation(
    x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, teacher_logits_NV: Tensor, *, share: float, fused: bool
) -> tuple[Tensor, Tensor]:
    """Return the summed loss of logits x @ weight.T, partly against targets, partly against a teacher's distribution.

    The loss of a row is `(1 - share) * -ln p(target) + share * -sum_v q(v) ln p(v)`, where q is what the teacher
    expects at that place. Its second part is the Kullback-Leibler divergence from the teacher, but for a constant.

    Args:
        x_ND: hidden states.
        weight_VD: the head, of the same type, from `products.unstacked`.
        targets_N: int64; -100 is ignored.
        teacher_logits_NV: of the teacher at the same places, without gradient.
        share: of the loss that is taken against the teacher, 0 to 1.
        fused: use the kernel.

    Returns:
        The loss, and the summed -ln p of the targets alone, which has no gradient; float32 scalars, in nats.

    Reference: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531 (at temperature 1).
    """
    if fused and weight_VD.shape[0] <= MAX_FUSED_VOCAB_SIZE:
        return _LinearDistillation.apply(x_ND, weight_VD, targets_N, teacher_logits_NV, share)
    log_p_NV = F.linear(x_ND, weight_VD).float().log_softmax(dim=-1)
    hard = F.nll_loss(log_p_NV, targets_N, ignore_index=IGNORED_LABEL, reduction="sum")
    q_NV = teacher_logits_NV.float().softmax(dim=-1) * (targets_N != IGNORED_LABEL)[:, None]
    soft = -(q_NV * log_p_NV).sum()
    return (1 - share) * hard + share * soft, hard.detach()


class _LinearDistillation(torch.autograd.Function):
    """The gradient of the logits is made in the forward pass, as above."""

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, teacher_logits_NV: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        from stentor.model.kernels.distillation import distillation_in_place

        logits_NV = x_ND @ weight_VD.T
        losses_N, nats_N = distillation_in_place(logits_NV, targets_N, teacher_logits_NV, share)
        ctx.save_for_backward(x_ND, weight_VD, logits_NV)
        loss, nats = losses_N.sum(), nats_N.sum()
        ctx.mark_non_differentiable(nats)
        return loss, nats

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, weight_VD, logits_grad_NV = ctx.saved_tensors
        return *_factor_grads(x_ND, weight_VD, logits_grad_NV, grads[0]), None, None, None
