"""One update of the weights, asked for without waiting for the device; what came of it is fetched later.

On a GPU the whole of it (every micro-batch forward and backward, the gradient's norm, the optimizers) is recorded
once as a CUDA graph; each update then costs the host one copy and one launch. A last step with fewer
sequences is the same graph with rows that nothing is to be predicted from.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stentor.model.llama import Llama, document_ids
from stentor.model.loss import shifted_loss
from stentor.model.ops import IGNORED_LABEL
from stentor.train.average import WeightAverage
from stentor.train.distributed import ALONE, World
from stentor.train.optimizers import Optimizers
from stentor.train.precision import LossScale
from stentor.train.schedule import Rates
from stentor.train.teacher import Teacher

WINDOW = 64
"""At most this many updates may be asked for before their outcomes are fetched."""
_WARMUPS = 3


class Outcome(NamedTuple):
    """What an update was about.

    Attributes:
        loss_nats: mean over the predicted tokens of the step.
        grad_norm: of the gradient of all parameters together, before clipping.
        went_on: false where the update was not made, and none after it, since these are no numbers.
    """

    loss_nats: float
    grad_norm: float
    went_on: bool


class Step:
    """Makes updates of one model.

    Args:
        model: the network, on its device.
        optimizers: of its parameters.
        average: of its weights, if one is kept.
        teacher: to learn from, if there is one.
        sequences_per_step: of every step but perhaps the last.
        micro_batch_size: sequences per forward pass.
        max_grad_norm: the gradient is clipped to this.
        document_separator: the token that ends a document, where attention is to stay within documents.
        expectations_kept: tokens that stand for what the teacher expects; 0 if it is asked in every step.
        world: the processes that share each step.
    """

    def __init__(
        self,
        model: Llama,
        optimizers: Optimizers,
        average: WeightAverage | None,
        teacher: Teacher | None = None,
        *,
        sequences_per_step: int,
        micro_batch_size: int,
        max_grad_norm: float,
        document_separator: int | None,
        expectations_kept: int = 0,
        world: World = ALONE,
    ) -> None:
        self._model, self._optimizers, self._average, self._teacher = model, optimizers, average, teacher
        self._micro_batch_size, self._max_grad_norm = micro_batch_size, max_grad_norm
        self.document_separator, self._world = document_separator, world
        device = model.embedding_VD.device
        self.loss_scale = LossScale(is_dynamic=model.numerics.compute_dtype == torch.float16, device=device)
        self._alive = torch.ones((), dtype=torch.bool, device=device)
        self._outcomes = torch.zeros(WINDOW, 3, dtype=torch.float64, device=device)
        self._cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        shape = (sequences_per_step, model.config.max_position_embeddings)
        self._inputs_BT = torch.zeros(shape, dtype=torch.int64, device=device)
        self._labels_BT = torch.zeros_like(self._inputs_BT)
        self._expected_BTE: Tensor | None = None
        if expectations_kept:
            share = (-(-shape[0] // world.size), shape[1], 2 * expectations_kept)
            self._expected_BTE = torch.zeros(share, dtype=torch.int16, device=device)

    def run(self, inputs_BT: Tensor, labels_BT: Tensor, rates: Rates, expected_BTE: Tensor | None = None) -> None:
        """Ask for an update.

        Args:
            inputs_BT: token ids of the whole step, on the host; each process works on its share.
            labels_BT: what is to be predicted, -100 where nothing is.
            rates: of the optimizers.
            expected_BTE: what the teacher said of this process's share of the sequences, if it was asked before.
        """
        if self._expected_BTE is not None and expected_BTE is not None:
            self._expected_BTE[: len(expected_BTE)].copy_(_pinned(expected_BTE, self._inputs_BT), non_blocking=True)
        self._optimizers.set_rates(rates)
        if not self._inputs_BT.is_cuda:
            self._update(inputs_BT, labels_BT)
            return
        missing = len(self._inputs_BT) - len(inputs_BT)
        padded_BT = F.pad(inputs_BT, (0, 0, 0, missing)), F.pad(labels_BT, (0, 0, 0, missing), value=IGNORED_LABEL)
        for static_BT, given_BT in zip((self._inputs_BT, self._labels_BT), padded_BT, strict=True):
            static_BT.copy_(_pinned(given_BT, static_BT), non_blocking=True)
        if self._graph is None:
            self._graph = self._recorded()
        self._graph.replay()

    def outcomes(self) -> list[Outcome]:
        """Wait for all updates that were asked for, and return what came of those since the last call."""
        count = int(self._cursor)
        rows = self._outcomes[:count].tolist()
        self._cursor.zero_()
        return [Outcome(loss_nats, grad_norm, bool(went_on)) for loss_nats, grad_norm, went_on in rows]

    def state(self) -> dict[str, Tensor]:
        """Return all that updates depend on beside weights and step, by name."""
        average = self._average.state() if self._average else {}
        return {**self._optimizers.state(), **self.loss_scale.state(), **average}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a state of the same names and shapes."""
        self._optimizers.load_state(tensors)
        self.loss_scale.load_state(tensors)
        if self._average:
            self._average.load_state(tensors)

    def close(self) -> None:
        """Give the recorded graph back: processes cannot part while a graph holds the ways between them."""
        if self._graph is not None:
            self._graph.reset()
            self._graph = None

    def _recorded(self) -> torch.cuda.CUDAGraph:
        """Record the graph; meanwhile no update applies, so nothing changes."""
        self._alive.zero_()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARMUPS):
                self._update(self._inputs_BT, self._labels_BT)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads watch the other processes
            self._update(self._inputs_BT, self._labels_BT)
        self._cursor.zero_()
        self._alive.fill_(True)
        return graph

    def _update(self, inputs_BT: Tensor, labels_BT: Tensor) -> None:
        num_predicted = (labels_BT[:, 1:] != IGNORED_LABEL).sum()
        scale = self.loss_scale.scale / num_predicted
        parameters = self._optimizers.parameters.values()
        for parameter in parameters:
            parameter.grad = None
        total_nats = torch.zeros((), dtype=torch.float64, device=inputs_BT.device)
        inputs_BT = self._world.share(inputs_BT, filler=0)
        labels_BT = self._world.share(labels_BT, filler=IGNORED_LABEL)
        size = self._micro_batch_size
        expected = repeat(None) if self._expected_BTE is None else self._expected_BTE[: len(inputs_BT)].split(size)
        for inputs_MT, labels_MT, expected_MTE in zip(
            inputs_BT.split(size), labels_BT.split(size), expected, strict=False
        ):
            total_nats += self._backward(inputs_MT, labels_MT, expected_MTE, scale)
        grads = [p.grad for p in parameters if p.grad is not None]
        self._world.sum_in_place([*grads, total_nats])
        self._apply(total_nats / num_predicted, grads)

    def _backward(self, inputs_MT: Tensor, labels_MT: Tensor, expected_MTE: Tensor | None, scale: Tensor) -> Tensor:
        """Add the gradient of a micro-batch; returns its summed loss in nats."""
        documents = None
        if self.document_separator is not None:
            documents = document_ids(inputs_MT, self.document_separator)
        if self._teacher:
            loss, nats = self._teacher.loss(self._model, inputs_MT, labels_MT, expected_MTE, document_ids_BT=documents)
        else:
            loss, _ = shifted_loss(self._model, inputs_MT, labels_MT, document_ids_BT=documents)
            nats = loss.detach()
        (loss * scale).backward()
        return nats

    def _apply(self, loss_nats: Tensor, grads: list[Tensor]) -> None:
        """Update the weights if loss and gradient are numbers, and note what happened."""
        grad_norm = torch.nn.utils.get_total_norm(grads) / self.loss_scale.scale
        is_finite = torch.isfinite(grad_norm) & torch.isfinite(loss_nats)
        applies = self._alive & is_finite
        clipping = torch.clamp(grad_norm / self._max_grad_norm, min=1.0)
        self._optimizers.step(grad_scale=clipping * self.loss_scale.scale, applies=applies)
        self._world.take_first(self._optimizers.parameters.values())
        if self._average:
            self._average.update(self._optimizers.count, applies)
        self._alive.logical_and_(self.loss_scale.adjust(is_finite))
        row = torch.stack((loss_nats, grad_norm.double(), self._alive.double()))
        self._outcomes.index_copy_(0, self._cursor, row[None])
        self._cursor.add_(1)


def _pinned(given: Tensor, like: Tensor) -> Tensor:
    """Return a tensor in memory from which a GPU takes it by itself, if there is one."""
    return given.pin_memory() if like.is_cuda else given
