"""A network in torch, for a GPU: imported for such a device alone, as the only file of this stage that needs torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stentor.model.labels import IGNORED_LABEL
from stentor.model.llama import KeyValueCache, Llama
from stentor.model.scorer import TorchScorer
from stentor.runtime.network import require_readable


class TorchNetwork:
    """A network on any device that torch knows; a `CachedNetwork`.

    Unlike on a CPU's own engine, logits depend in their last bits on how many tokens are read at once.

    Args:
        model: with its weights.
        num_sequences: that it can remember.
    """

    def __init__(self, model: Llama, *, num_sequences: int = 1) -> None:
        self.config = model.config
        self._model = model
        weight = model.embedding_VD
        self._caches = [
            KeyValueCache(model.config, 1, dtype=weight.dtype, device=weight.device) for _ in range(num_sequences)
        ]

    def fresh(self, num_sequences: int = 1) -> TorchNetwork:
        """Return a network of the same weights that has read nothing; see `CachedNetwork`."""
        return TorchNetwork(self._model, num_sequences=num_sequences)

    def share(self, length: int) -> None:
        """Let all sequences begin as the first one does; see `CachedNetwork`."""
        first, *others = self._caches
        for cache in others:
            cache.k_LBKSH[..., :length, :] = first.k_LBKSH[..., :length, :]
            cache.v_LBKSH[..., :length, :] = first.v_LBKSH[..., :length, :]
            cache.length = length

    def extend(
        self, token_ids: Sequence[int], start: int, *, all_scored: bool = False, sequence: int = 0
    ) -> NDArray[np.float32]:
        """Read tokens of a sequence and return the logits after each [K, V] or the last [1, V]; see `CachedNetwork`."""
        require_readable(self.config, token_ids, start, start + len(token_ids) - 1)
        cache = self._caches[sequence]
        cache.length = start
        with torch.inference_mode():
            input_ids_BT = torch.tensor([list(token_ids)], device=self._model.embedding_VD.device)
            x_TD = self._model.hidden(input_ids_BT, cache=cache)[0]
            return self._model.logits(x_TD if all_scored else x_TD[-1:]).float().cpu().numpy()

    def extend_each(
        self, token_ids: Sequence[int], positions: Sequence[int], sequences: Sequence[int]
    ) -> NDArray[np.float32]:
        """Read a token of each of some sequences, and return the logits after each [K, V]; see `CachedNetwork`."""
        each = zip(token_ids, positions, sequences, strict=True)
        return np.concatenate([self.extend([token], position, sequence=sequence) for token, position, sequence in each])

    def window_nats(self, inputs_BT: NDArray[np.integer], targets_BT: NDArray[np.integer]) -> NDArray[np.floating]:
        """Return -ln p of targets; see `measure.Scorer`."""
        return TorchScorer(self._model).window_nats(inputs_BT, targets_BT)

    def window_scores(
        self, inputs_BT: NDArray[np.integer], targets_BT: NDArray[np.integer]
    ) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        """Return -ln p of targets, and whether each is the likeliest; see `options.WindowScorer`."""
        device = self._model.embedding_VD.device
        with torch.inference_mode():
            x_BTD = self._model.hidden(torch.from_numpy(inputs_BT).to(device))
            return scores_of(self._model.logits(x_BTD), targets_BT)


def scores_of(
    logits_BTV: torch.Tensor, targets_BT: NDArray[np.integer]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Return -ln p of targets [B, T], 0 where they are ignored, and whether each is the likeliest."""
    targets = torch.from_numpy(targets_BT).long().to(logits_BTV.device)
    is_asked = targets != IGNORED_LABEL
    log_probs_BTV = logits_BTV.float().log_softmax(-1)
    chosen_BT = log_probs_BTV.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    nats_BT = -torch.where(is_asked, chosen_BT, 0.0)
    return nats_BT.double().cpu().numpy(), (chosen_BT == log_probs_BTV.amax(-1)).cpu().numpy()
