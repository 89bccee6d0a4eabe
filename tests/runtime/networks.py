"""Networks of random weights for tests of the engine: in torch, on the CPU, and one that says the same always."""

from __future__ import annotations

import numpy as np
import torch

from stentor.model.config import ModelConfig
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.names import to_hugging_face
from stentor.runtime.cpu import CpuNetwork


def tensors_of(model: Llama) -> dict[str, np.ndarray]:
    """Return the weights under Hugging Face's names."""
    return {name: tensor.numpy() for name, tensor in to_hugging_face(model.config, model.state_dict()).items()}


def random_llama(config: ModelConfig, *, factor: float = 5, seed: int = 2) -> Llama:
    """Return a network whose every probability is its own: large weights, and norms that do something."""
    model = Llama(config).eval()
    initialize(model, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
            else:
                parameter.mul_(factor)
    return model


def on_cpu(model: Llama, **options) -> CpuNetwork:
    """Return the same network on the CPU's own engine."""
    return CpuNetwork(model.config, tensors_of(model), **options)


class Parrot:
    """A `CachedNetwork` that always expects the same token."""

    def __init__(self, config: ModelConfig, token_id: int) -> None:
        self.config = config
        self._logits_V = np.eye(config.vocab_size, dtype=np.float32)[token_id] * 50

    def extend(self, token_ids, start, *, all_scored=False, sequence=0):
        return np.repeat(self._logits_V[None], len(token_ids) if all_scored else 1, axis=0)

    def extend_each(self, token_ids, positions, sequences):
        return np.repeat(self._logits_V[None], len(token_ids), axis=0)

    def share(self, length):
        pass

    def fresh(self, num_sequences=1):
        return self

    def window_nats(self, inputs_BT, targets_BT):
        return np.zeros(targets_BT.shape)
