"""One token of each of some sequences, in torch: in a fixed shape, so that a GPU records it once and then repeats it.

What a pass of a model of this size costs on a GPU is mostly to be told its two hundred steps; a graph is told at once.
Shapes: B sequences, V vocabulary; the rest as in `model.llama`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stentor.model.llama import KeyValueCache, Llama
from stentor.model.ops import IDLE, attend_cached, way_of


class TorchStep:
    """The pass itself, with weights that were converted to the type of their products once.

    Args:
        model: with its weights.
    """

    def __init__(self, model: Llama) -> None:
        self.config, self.dtype, self.device = model.config, model.numerics.compute_dtype, model.embedding_VD.device
        self._model = model
        # The kernel of attention computes in float32, whatever it reads; others come for 16 bits alone.
        self._attention_way = way_of(torch.float16, self.device)
        with torch.inference_mode():
            self._layers = list(model.layers())
            self._head_VD = model.head_weight_VD

    def logits(self, token_ids_B: Tensor, positions_B: Tensor, cache: KeyValueCache) -> Tensor:
        """Return the logits after a token of each sequence [B, V], float32.

        Args:
            token_ids_B: one of each sequence; any for one that is idle.
            positions_B: of each in its sequence, or `IDLE`.
            cache: of the sequences.
        """

        def attended(layer: int, q_1NBH: Tensor, k_1KBH: Tensor, v_1KBH: Tensor) -> Tensor:
            heads = q_1NBH[0].transpose(0, 1), k_1KBH[0].transpose(0, 1), v_1KBH[0].transpose(0, 1)
            kept = cache.k_LBKSH[layer], cache.v_LBKSH[layer]
            return attend_cached(heads, kept, positions_B, way=self._attention_way)[None]

        rotary = self._model.cos_TH[positions_B], self._model.sin_TH[positions_B]
        # To all operations but attention the sequences are one text of B tokens at positions of their own.
        x_BD = self._model.through_layers(token_ids_B[None], self._layers, rotary, attended)[0]
        return F.linear(x_BD.to(self._head_VD.dtype), self._head_VD).float()


class Room:
    """Keys and values of some sequences, and the graph of the pass that reads and writes just these.

    Args:
        step: the pass.
        num_sequences: how many.

    Attributes:
        cache: keys and values.
    """

    def __init__(self, step: TorchStep, num_sequences: int) -> None:
        self._step, self.num_sequences = step, num_sequences
        self.cache = KeyValueCache(step.config, num_sequences, dtype=step.dtype, device=step.device)
        on_gpu = step.device.type == "cuda"
        # Memory that a GPU reads and writes by itself: ids and positions on their way there, logits on their way back.
        self._told_2B = torch.zeros(2, num_sequences, dtype=torch.int64, pin_memory=on_gpu)
        self._found_BV = torch.zeros(num_sequences, step.config.vocab_size, pin_memory=on_gpu)
        self._asked_2B = self._told_2B.to(step.device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def read(self, token_ids: Sequence[int], positions: Sequence[int], sequences: Sequence[int]) -> NDArray[np.float32]:
        """Read a token of each of some sequences, and return the logits after each [K, V]; see `CachedNetwork`."""
        told_2B = self._told_2B.numpy()
        told_2B[0], told_2B[1] = 0, IDLE
        told_2B[:, sequences] = token_ids, positions
        with torch.inference_mode():
            self._asked_2B.copy_(self._told_2B, non_blocking=True)
            self._found_BV.copy_(self._logits(), non_blocking=True)
        if self._step.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        found_BV = self._found_BV.numpy()
        return found_BV if list(sequences) == list(range(self.num_sequences)) else found_BV[list(sequences)]

    def read_there(self, token_ids_B: Tensor, position: int) -> Tensor:
        """Read a token of every sequence at the same position, and return the logits [B, V], all on the device.

        Nothing is waited for; the next call overwrites the logits.
        """
        self._asked_2B[0].copy_(token_ids_B)
        self._asked_2B[1].fill_(position)
        return self._logits()

    def _logits(self) -> Tensor:
        """Return the logits [B, V] after the tokens that were asked for."""
        if self._step.device.type != "cuda":
            return self._pass()
        if self._graph is None:
            self._graph = self._recorded()
        self._graph.replay()
        return self._recorded_BV

    def _pass(self) -> Tensor:
        return self._step.logits(self._asked_2B[0], self._asked_2B[1], self.cache)

    def _recorded(self) -> torch.cuda.CUDAGraph:
        """Record the pass; that it runs before, once, compiles what is not, and changes nothing that it will not."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._pass()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._recorded_BV = self._pass()
        return graph
