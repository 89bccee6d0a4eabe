"""A network in torch, for a GPU: imported for such a device alone, as the only files of this stage that need torch."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from stentor.model.labels import IGNORED_LABEL
from stentor.model.llama import Llama
from stentor.model.scorer import TorchScorer
from stentor.runtime.network import require_readable
from stentor.runtime.torch_draws import TorchDraws
from stentor.runtime.torch_sampling import TorchSampler
from stentor.runtime.torch_step import Room, TorchStep

if TYPE_CHECKING:
    from stentor.runtime.continuation import Request


class TorchNetwork:
    """A network on any device that torch knows; a `CachedNetwork`, which computes in the type of its `numerics`.

    One token of each sequence is read in a fixed shape, on an NVIDIA GPU recorded as a graph. Unlike on a CPU's own
    engine, logits depend in their last bits on how many tokens are read at once.

    Args:
        model: with its weights.
        num_sequences: that it can remember.
        rooms: of the network that this one shares its weights with.
    """

    def __init__(self, model: Llama, *, num_sequences: int = 1, rooms: _Rooms | None = None) -> None:
        self.config = model.config
        self._model = model
        self._rooms = rooms or _Rooms(model)
        self._num_sequences = num_sequences

    def fresh(self, num_sequences: int = 1) -> TorchNetwork:
        """Return a network of the same weights that has read nothing; see `CachedNetwork`."""
        return TorchNetwork(self._model, num_sequences=num_sequences, rooms=self._rooms)

    def share(self, length: int) -> None:
        """Let all sequences begin as the first one does; see `CachedNetwork`."""
        cache = self._room.cache
        with torch.inference_mode():
            for kept_LBKSH in (cache.k_LBKSH, cache.v_LBKSH):
                kept_LBKSH[:, 1:, :, :length] = kept_LBKSH[:, :1, :, :length]

    def extend(
        self, token_ids: Sequence[int], start: int, *, all_scored: bool = False, sequence: int = 0
    ) -> NDArray[np.float32]:
        """Read tokens of a sequence and return the logits after each [K, V] or the last [1, V]; see `CachedNetwork`."""
        if len(token_ids) == 1:
            return self.extend_each(token_ids, [start], [sequence])
        require_readable(self.config, token_ids, start, start + len(token_ids) - 1)
        with torch.inference_mode():
            x_TD = self._hidden(token_ids, start, sequence)
            return self._model.logits(x_TD if all_scored else x_TD[-1:]).float().cpu().numpy()

    def extend_each(
        self, token_ids: Sequence[int], positions: Sequence[int], sequences: Sequence[int]
    ) -> NDArray[np.float32]:
        """Read a token of each of some sequences, and return the logits after each [K, V]; see `CachedNetwork`."""
        require_readable(self.config, token_ids, min(positions), max(positions))
        return self._room.read(token_ids, positions, sequences)

    def drawn(self, request: Request, generators: Sequence[np.random.Generator]) -> Iterator[list[int]]:
        """Yield the next token of each continuation of a request; see `DrawingNetwork`."""
        require_readable(self.config, request.prompt_ids, 0, len(request.prompt_ids) - 1)
        with torch.inference_mode():
            logits_1V = self._model.logits(self._hidden(request.prompt_ids, 0, 0)[-1:]).float()
        self.share(len(request.prompt_ids))
        sampler = TorchSampler(
            request.settings,
            request.prompt_ids,
            num_sequences=len(generators),
            vocab_size=self.config.vocab_size,
            num_tokens=request.tokenizer.vocab_size,
            eos_token_id=request.tokenizer.eos_token_id,
            device=logits_1V.device,
        )
        num_steps = min(request.max_new_tokens, self.config.max_position_embeddings - len(request.prompt_ids) + 1)
        uniforms_TB = np.stack([generator.random(num_steps) for generator in generators], axis=1)
        return TorchDraws(self._room, sampler, uniforms_TB).run(logits_1V, len(request.prompt_ids))

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

    def _hidden(self, token_ids: Sequence[int], start: int, sequence: int) -> torch.Tensor:
        """Read tokens of a sequence, at once; returns the normalised output of the last layer [T, D]."""
        input_ids_BT = torch.tensor([list(token_ids)], device=self._model.embedding_VD.device)
        return self._model.hidden(input_ids_BT, cache=self._room.cache.of(sequence, start))[0]

    @cached_property
    def _room(self) -> Room:
        room = self._rooms.take(self._num_sequences)
        weakref.finalize(self, self._rooms.give_back, room).atexit = False
        return room


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


class _Rooms:
    """Rooms that no text needs any more: the next one of as many sequences finds its graph recorded.

    Args:
        model: what they belong to.
    """

    def __init__(self, model: Llama) -> None:
        self._model = model
        self._free: dict[int, list[Room]] = defaultdict(list)

    @cached_property
    def _step(self) -> TorchStep:
        return TorchStep(self._model)

    def take(self, num_sequences: int) -> Room:
        free = self._free[num_sequences]
        return free.pop() if free else Room(self._step, num_sequences)

    def give_back(self, room: Room) -> None:
        self._free[room.num_sequences].append(room)
