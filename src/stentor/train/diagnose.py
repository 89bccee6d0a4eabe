"""Which tensor stopped being numbers first: asked once a run had to stop, so that its user need not guess."""

from __future__ import annotations

import torch
from torch import Tensor

from stentor.model.llama import Llama, document_ids
from stentor.model.loss import shifted_loss
from stentor.model.names import to_hugging_face


def first_non_finite(
    model: Llama, inputs_BT: Tensor, labels_BT: Tensor, *, micro_batch_size: int, document_separator: int | None
) -> str:
    """Return the first weight, or else gradient, that holds NaN or infinity; nothing where all are finite.

    Args:
        model: with the weights before the update that failed; its gradients are lost.
        inputs_BT: token ids of that step.
        labels_BT: what was to be predicted.
        micro_batch_size: sequences per forward pass.
        document_separator: as in `Step`.
    """
    device = model.embedding_VD.device
    if name := _first(to_hugging_face(model.config, dict(model.named_parameters()))):
        return f"the weights of {name} hold values that are not finite"
    model.zero_grad()
    micro_batches = zip(inputs_BT.split(micro_batch_size), labels_BT.split(micro_batch_size), strict=True)
    for inputs_MT, labels_MT in micro_batches:
        inputs_MT, labels_MT = inputs_MT.to(device), labels_MT.to(device)
        documents = None if document_separator is None else document_ids(inputs_MT, document_separator)
        total_nats, _ = shifted_loss(model, inputs_MT, labels_MT, document_ids_BT=documents)
        (total_nats / labels_BT.numel()).backward()
    grads = {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad
        for name, weight in model.named_parameters()
    }
    model.zero_grad()
    name = _first(to_hugging_face(model.config, grads))
    return f"the gradient of {name} is not finite" if name else ""


def _first(tensors: dict[str, Tensor]) -> str:
    return next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), "")
