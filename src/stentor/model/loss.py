"""Cross-entropy in nats: shifted inside for training, with a teacher or without, and per token for measuring."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stentor.model.labels import IGNORED_LABEL
from stentor.model.llama import Llama
from stentor.model.ops import linear_cross_entropy, linear_distillation, linear_distillation_of_few


def shifted_loss(
    model: Llama, input_ids_BT: Tensor, labels_BT: Tensor, *, document_ids_BT: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sum the loss of predicting each token from those before it; labels equal inputs and are shifted here.

    Args:
        model: the network.
        input_ids_BT: token ids.
        labels_BT: the same ids, -100 where nothing is to be predicted.
        document_ids_BT: keeps attention within documents, see `Llama.forward`.

    Returns:
        Summed nats (a scalar with gradient) and the number of predicted tokens.
    """
    x_ND, weight_VD = _before_the_head(model, input_ids_BT, document_ids_BT)
    targets_N = _shifted(labels_BT)
    return linear_cross_entropy(x_ND, weight_VD, targets_N, way=model.way), (targets_N != IGNORED_LABEL).sum()


def distilled_loss(
    model: Llama,
    teachers: Sequence[Llama],
    input_ids_BT: Tensor,
    labels_BT: Tensor,
    *,
    share: float,
    document_ids_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum a loss of which a share is taken against what teachers expect at each place, by the mean of their logits.

    Args:
        model: the network that learns.
        teachers: others, with the same token ids.
        input_ids_BT: token ids.
        labels_BT: the same ids, -100 where nothing is to be predicted.
        share: of the loss, 0 to 1.
        document_ids_BT: keeps attention within documents, for all.

    Returns:
        The loss (a scalar with gradient), and the summed nats of the labels alone, as `shifted_loss` gives them.
    """
    teacher_logits_NV = mean_logits(teachers, input_ids_BT, document_ids_BT=document_ids_BT)
    x_ND, weight_VD = _before_the_head(model, input_ids_BT, document_ids_BT)
    return linear_distillation(x_ND, weight_VD, _shifted(labels_BT), teacher_logits_NV, share=share, way=model.way)


def loss_of_expected(
    model: Llama,
    expected_BTE: Tensor,
    input_ids_BT: Tensor,
    labels_BT: Tensor,
    *,
    share: float,
    document_ids_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return what `distilled_loss` does, where it was kept what teachers expect (`stentor.model.expected`)."""
    x_ND, weight_VD = _before_the_head(model, input_ids_BT, document_ids_BT)
    return linear_distillation_of_few(
        x_ND, weight_VD, _shifted(labels_BT), expected_BTE.flatten(0, 1), share=share, way=model.way
    )


@torch.no_grad()
def mean_logits(models: Sequence[Llama], input_ids_BT: Tensor, *, document_ids_BT: Tensor | None = None) -> Tensor:
    """Return the mean [N, V] of what models say: the geometric mean of their distributions, but for a constant."""
    first, *others = models
    logits_NV = first(input_ids_BT, document_ids_BT=document_ids_BT).flatten(0, 1)
    for model in others:
        logits_NV += model(input_ids_BT, document_ids_BT=document_ids_BT).flatten(0, 1)
    return logits_NV / len(models) if others else logits_NV


def _before_the_head(model: Llama, input_ids_BT: Tensor, document_ids_BT: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the two factors of the logits: hidden states [N, D] and the head [V, D]."""
    weight_VD = model.head_weight_VD
    return model.hidden(input_ids_BT, document_ids_BT=document_ids_BT).flatten(0, 1).to(weight_VD.dtype), weight_VD


def _shifted(labels_BT: Tensor) -> Tensor:
    """Return what is to be predicted at each place [N]: the label of the next one."""
    return F.pad(labels_BT[:, 1:], (0, 1), value=IGNORED_LABEL).flatten()


def token_nats(model: Llama, input_ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """Return -ln p(target) [B, T] of each target given the inputs up to its place; 0 where the target is -100."""
    logits_BTV = model(input_ids_BT)
    nats = F.cross_entropy(
        logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), ignore_index=IGNORED_LABEL, reduction="none"
    )
    return nats.view_as(targets_BT)
