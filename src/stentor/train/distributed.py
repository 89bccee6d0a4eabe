"""Training on more than one device: processes that torchrun starts, each with its share of every step.

Every process holds the whole model and makes the same update of it: gradients are summed over all, so that norm,
clipping, loss scale and what is skipped are equal everywhere. Compilers may choose other kernels for an optimizer in
each process, whose sums round otherwise, so after an update all take the first one's weights: they stay the same bits.
A process alone has a world of one, in which nothing here does anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from stentor.errors import EchoedError, StentorError, UserError
from stentor.model.device import pick_device
from stentor.model.llama import Llama

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

TIMEOUT = timedelta(minutes=30)
"""After which a process that does not answer counts as lost; torchrun ends the others of a dead one at once."""
_FAILED, _ARRIVED = "failed", "arrived"
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.5
_KEEPS_GROUPS = "torch.distributed.nn.functional"
"""Keeps the group that it finds when first imported, open even after it is destroyed; AdamW imports it."""
_START = "torchrun --nproc-per-node {count} -m stentor train RECIPE"


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run, as one of them sees it; use it through `joined`.

    Attributes:
        rank: of this process, from 0.
        size: processes in all.
        local_rank: of this process on its machine.
        local_size: processes on this machine.
        store: what all can write to and read from.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    store: Store | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes and speaks."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """Return which of the rows of a step are this process's; where rows run out it has fewer than the first."""
        num_rows = -(-count // self.size)
        return slice(min(count, self.rank * num_rows), min(count, (self.rank + 1) * num_rows))

    def share(self, rows_BT: Tensor, *, filler: int) -> Tensor:
        """Return this process's rows of a step [ceil(B / size), T]; where rows run out they are `filler`."""
        if self.size == 1:
            return rows_BT
        mine_BT = rows_BT[self.rows(len(rows_BT))]
        return F.pad(mine_BT, (0, 0, 0, -(-len(rows_BT) // self.size) - len(mine_BT)), value=filler)

    def part(self, token_ids: np.ndarray, before: int, *, span: int) -> tuple[np.ndarray, int]:
        """Return this process's part of a stream, whole spans but at the end, and the token before it.

        Args:
            token_ids: of the stream [num_tokens].
            before: the token before the stream.
            span: tokens that are kept together.
        """
        length = -(-len(token_ids) // (span * self.size)) * span
        start = self.rank * length
        return token_ids[start : start + length], int(token_ids[start - 1]) if 0 < start <= len(token_ids) else before

    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one device by their sums over all processes, in one piece for each type."""
        if self.size == 1:
            return
        for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
            chosen = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.flatten() for tensor in chosen])
            with _explained():
                dist.all_reduce(flat)
            for tensor, total in zip(chosen, flat.split([tensor.numel() for tensor in chosen]), strict=True):
                tensor.copy_(total.view_as(tensor))

    def take_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of the first process."""
        if self.size == 1:
            return
        with _explained():
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def total(self, number: float) -> float:
        """Return the sum of every process's number, in float64."""
        if self.size == 1:
            return number
        summed = torch.tensor([number], dtype=torch.float64)
        self.sum_in_place([summed])
        return float(summed)

    def any(self, flag: bool) -> bool:
        """Whether any process says so; the answer is the same for all."""
        return self.total(flag) > 0

    def require_same(self, value: str, *, what: str, fix: str) -> None:
        """Refuse to go on where a process has another value than the first one.

        Raises:
            UserError: in every process.
        """
        if self.size == 1:
            return
        digest = torch.frombuffer(bytearray(hashlib.sha256(value.encode()).digest()), dtype=torch.uint8)
        first = digest.clone()
        with _explained():
            dist.broadcast(first, src=0)
        if self.any(not torch.equal(digest, first)):
            raise UserError(f"the processes of this run have not the same {what}", fix=fix)

    def require_same_weights(self, model: Llama) -> None:
        """Refuse to go on with weights that are not the same bits everywhere.

        Raises:
            UserError: the machines do not compute alike.
        """
        if self.size > 1:
            sums = [weight.detach().view(torch.int32).sum(dtype=torch.int64) for weight in model.parameters()]
            self.require_same(
                str(torch.stack(sums).tolist()), what="weights any more", fix="train on devices of one kind only"
            )

    def barrier(self) -> None:
        """Wait for all, for as long as it takes.

        Raises:
            UserError: another process failed meanwhile.
        """
        if self.store is None:
            return
        with _explained():
            arrived = self.store.add(_ARRIVED, 1)
            awaited, pause_seconds = -(-arrived // self.size) * self.size, _FIRST_PAUSE_SECONDS
            while self.store.add(_ARRIVED, 0) < awaited:
                if self.store.check([_FAILED]):
                    raise _lost("it failed")
                time.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """Let the first process do something, then one on each other machine, then all others.

        Who comes later finds it done, where the machines share their folders or the process is not its machine's first.
        """
        turn = 0 if self.is_main else 1 if self.local_rank == 0 else 2
        for _ in range(turn):
            self.barrier()
        yield
        for _ in range(turn, 2):
            self.barrier()


ALONE = World()
_current: ContextVar[World] = ContextVar("world", default=ALONE)
_joined_before = itertools.count()


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """Join the processes that torchrun started with this one, and part at the end; alone without torchrun.

    Inside another such block its world is used. Of errors that end the processes together one is told, the first; the
    others are raised as `EchoedError`.

    Raises:
        UserError: the processes cannot work together here.
    """
    if _current.get() is not ALONE or os.environ.get("WORLD_SIZE", "1") == "1":
        yield _current.get()
        return
    world = _met()
    token = _current.set(world)
    try:
        with _one_voice(world):
            _open(world)
            yield world
    finally:
        _current.reset(token)
        if dist.is_initialized():
            dist.destroy_process_group()


def _met() -> World:
    """Meet the others where torchrun says."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
        local_rank, local_size = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    except (KeyError, ValueError, dist.DistError) as error:
        raise UserError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the other processes cannot be met ({error})",
            fix=f"start them with {_START.format(count='N')}, or unset WORLD_SIZE",
        ) from None
    return World(rank, size, local_rank, local_size, PrefixStore(f"stentor-{next(_joined_before)}", store))


def _open(world: World) -> None:
    """Choose this process's device and open the ways between the processes."""
    kind = pick_device().type
    if kind == "mps":
        raise UserError("several processes train on CPUs or on NVIDIA GPUs only", fix="start one, without torchrun")
    there = torch.cuda.device_count() if kind == "cuda" else os.cpu_count() or world.local_size
    if world.local_size > there:
        what = "NVIDIA GPUs" if kind == "cuda" else "CPU cores"
        raise UserError(
            f"{world.local_size} processes were started on one machine, but its {what} are {there}",
            fix=f"start at most one for each: {_START.format(count=there)}",
        )
    if kind == "cuda":
        torch.cuda.set_device(world.local_rank)
    importlib.import_module(_KEEPS_GROUPS)
    with _explained():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo",
            store=world.store,
            rank=world.rank,
            world_size=world.size,
            timeout=TIMEOUT,
        )


@contextlib.contextmanager
def _one_voice(world: World) -> Iterator[None]:
    """Let the first process that fails tell why, and the others end without a word."""
    try:
        yield
    except Exception as error:
        num_failed = 1
        if world.store is not None:
            with contextlib.suppress(RuntimeError):  # its host may be gone
                num_failed = world.store.add(_FAILED, 1)
        if num_failed == 1:
            raise
        raise EchoedError(error.exit_code if isinstance(error, StentorError) else 1) from error


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn the loss of another process into one sentence."""
    try:
        yield
    except RuntimeError as error:
        raise _lost(str(error).splitlines()[0]) from error


def _lost(reason: str) -> UserError:
    return UserError(
        f"another process of this run has ended or does not answer ({reason})",
        fix="see what it said or the system's log, and start again: the run goes on from its latest checkpoint",
    )
