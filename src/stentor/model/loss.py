"""Cross-entropy in nats, the two ways it is asked for: shifted inside for training, per token for measuring."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from stentor.model.llama import Llama
from stentor.model.ops import IGNORED_LABEL, linear_cross_entropy


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
    x_BTD = model.hidden(input_ids_BT, document_ids_BT=document_ids_BT)
    targets_BT = F.pad(labels_BT[:, 1:], (0, 1), value=IGNORED_LABEL)
    weight_VD = model.head_weight_VD
    x_ND = x_BTD.flatten(0, 1).to(weight_VD.dtype)
    total_nats = linear_cross_entropy(x_ND, weight_VD, targets_BT.flatten(), way=model.way)
    return total_nats, (targets_BT != IGNORED_LABEL).sum()


def token_nats(model: Llama, input_ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """Return -ln p(target) [B, T] of each target given the inputs up to its place; 0 where the target is -100."""
    logits_BTV = model(input_ids_BT)
    nats = F.cross_entropy(
        logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), ignore_index=IGNORED_LABEL, reduction="none"
    )
    return nats.view_as(targets_BT)
