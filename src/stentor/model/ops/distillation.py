"""The head and a loss of its logits of which a share is taken against a teacher."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stentor.model.expected import unpacked
from stentor.model.ops.cross_entropy import IGNORED_LABEL, MAX_GPU_VOCAB_SIZE, factor_grads
from stentor.model.ops.way import Way


def linear_distillation(
    x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, teacher_logits_NV: Tensor, *, share: float, way: Way
) -> tuple[Tensor, Tensor]:
    """Return the summed loss of logits x @ weight.T, partly against targets, partly against a teacher's distribution.

    The loss of a row is `(1 - share) * -ln p(target) + share * -sum_v q(v) ln p(v)`, where q is what the teacher
    expects at that place. Its second part is the Kullback-Leibler divergence from the teacher, but for a constant.

    Args:
        x_ND: hidden states.
        weight_VD: the head, of the same type, from `unstacked`.
        targets_N: int64; -100 is ignored.
        teacher_logits_NV: of the teacher at the same places, without gradient.
        share: of the loss that is taken against the teacher, 0 to 1.
        way: of computing it; a CPU takes the plain one.

    Returns:
        The loss, and the summed -ln p of the targets alone, which has no gradient; float32 scalars, in nats.

    Reference: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531 (at temperature 1).
    """
    if way is Way.GPU and weight_VD.shape[0] <= MAX_GPU_VOCAB_SIZE:
        return _OnGpu.apply(x_ND, weight_VD, targets_N, teacher_logits_NV, share)
    log_p_NV = F.linear(x_ND, weight_VD).float().log_softmax(dim=-1)
    hard = F.nll_loss(log_p_NV, targets_N, ignore_index=IGNORED_LABEL, reduction="sum")
    q_NV = teacher_logits_NV.float().softmax(dim=-1) * (targets_N != IGNORED_LABEL)[:, None]
    soft = -(q_NV * log_p_NV).sum()
    return (1 - share) * hard + share * soft, hard.detach()


def linear_distillation_of_few(
    x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, expected_NE: Tensor, *, share: float, way: Way
) -> tuple[Tensor, Tensor]:
    """Return what `linear_distillation` does where a few tokens stand for the teacher's distribution.

    Args:
        x_ND: hidden states.
        weight_VD: the head, of the same type, from `unstacked`.
        targets_N: int64; -100 is ignored.
        expected_NE: the tokens and their probabilities, int16, from `stentor.model.expected`.
        share: of the loss that is taken against the teacher, 0 to 1.
        way: of computing it; a CPU takes the plain one.

    Returns:
        The loss, and the summed -ln p of the targets alone, which has no gradient; float32 scalars, in nats.
    """
    if way is Way.GPU and weight_VD.shape[0] <= MAX_GPU_VOCAB_SIZE:
        return _OnGpu.apply(x_ND, weight_VD, targets_N, expected_NE, share)
    log_p_NV = F.linear(x_ND, weight_VD).float().log_softmax(dim=-1)
    hard = F.nll_loss(log_p_NV, targets_N, ignore_index=IGNORED_LABEL, reduction="sum")
    is_scored_N = targets_N != IGNORED_LABEL
    ids_NK, weights_NK = unpacked(expected_NE[is_scored_N])
    soft = -(weights_NK * log_p_NV[is_scored_N].gather(1, ids_NK)).sum()
    return (1 - share) * hard + share * soft, hard.detach()


class _OnGpu(torch.autograd.Function):
    """The gradient of the logits is made in the forward pass; the loss's own gradient scales what comes of it."""

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, teacher: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        """Learn from a teacher's logits [N, V], or from the few tokens (int16) that stand for them."""
        from stentor.model.kernels.distillation import distillation_in_place, distillation_of_few_in_place

        logits_NV = x_ND @ weight_VD.T
        in_place = distillation_of_few_in_place if teacher.dtype == torch.int16 else distillation_in_place
        losses_N, nats_N = in_place(logits_NV, targets_N, teacher, share)
        ctx.save_for_backward(x_ND, weight_VD, logits_NV)
        loss, nats = losses_N.sum(), nats_N.sum()
        ctx.mark_non_differentiable(nats)
        return loss, nats

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, weight_VD, logits_grad_NV = ctx.saved_tensors
        return *factor_grads(x_ND, weight_VD, logits_grad_NV, grads[0]), None, None, None
