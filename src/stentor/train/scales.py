"""How large weights and activations are, layer by layer: what tells a healthy run from one about to fall apart."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from stentor.model.llama import Llama
from stentor.model.measure import windows
from stentor.shards.format import Shard

_SEQUENCES = 4
"""Held-out windows that activations are measured on, always the same ones: few beside those of an evaluation."""
_DIGITS = 6


def measure_scales(model: Llama, held_out: Shard, *, micro_batch_size: int) -> dict[str, Any]:
    """Measure root mean squares, which depend on no width; nothing of the network is changed.

    Args:
        model: the network, on any device.
        held_out: text whose first windows give the activations.
        micro_batch_size: at most so many windows, for no more memory than an evaluation takes.

    Returns:
        `weights`: a value for the embedding, the last norm and an untied head, and a list with one for each layer
        of everything else, gains of norms among them. `activations`: of each layer, what its `attention` and its `mlp`
        add, and the sum they leave in the `residual` stream. `max_logit`: the largest of all, without its sign.
        None stands for what is no number.
    """
    context_length, sequences = model.config.max_position_embeddings, min(_SEQUENCES, micro_batch_size)
    ids_BT, _ = next(windows(held_out.token_ids, context_length, held_out.eos_token_id, sequences))
    with torch.inference_mode():
        activations = _activation_scales(model, torch.from_numpy(ids_BT).to(model.embedding_VD.device))
        return {"weights": _weight_scales(model), **activations}


def _weight_scales(model: Llama) -> dict[str, Any]:
    scales = {}
    for name, weight in model.named_parameters():
        short, _, shape = name.rpartition("_")
        scales[short] = _numbers(_root_mean_square(weight, keeps_first=shape.startswith("L")))
    return scales


def _activation_scales(model: Llama, ids_BT: Tensor) -> dict[str, Any]:
    layers: list[Tensor] = []

    def watch(*made: Tensor) -> None:
        layers.append(torch.stack([_root_mean_square(x_BTD) for x_BTD in made]))

    logits_BTV = model.logits(model.hidden(ids_BT, watch=watch))
    attention, mlp, residual = torch.stack(layers, dim=1)
    activations = {"attention": attention, "mlp": mlp, "residual": residual}
    return {
        "activations": {name: _numbers(values_L) for name, values_L in activations.items()},
        "max_logit": _numbers(logits_BTV.abs().max()),
    }


def _root_mean_square(tensor: Tensor, *, keeps_first: bool = False) -> Tensor:
    return tensor.float().square().flatten(int(keeps_first)).mean(dim=-1).sqrt()


def _numbers(values: Tensor) -> Any:
    """Return a number, or a list of them, short enough for a log; JSON has no infinity."""
    if values.dim():
        return [_numbers(value) for value in values.cpu()]
    value = float(values)
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
