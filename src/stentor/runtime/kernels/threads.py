"""Threads that meet without the operating system: two such meetings a layer would cost more than the layer.

A thread counts its arrivals at a place of its own, a cache line from the others', and spins until all have come.
Between passes workers spin too, for a while: a pass follows another within microseconds while text is made. Who spins
in vain says that it sleeps, and returns; whoever posts the next pass then sees whom to wake.
"""

from __future__ import annotations

import os
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from stentor.runtime.compiled import Int, inlined
from stentor.runtime.kernels.vector import load_long, store_long

LINE = 8
"""int64 values from one thread's place to the next: a cache line."""
_AWAKE, _ASLEEP = 0, 1
_LOOKS = 1_000_000
"""For another thread before this one makes room for it: some tenths of a millisecond, many times what a share takes.

The other may be waiting for a core; one that is merely late, woken a moment ago, must not be slept for: a nap
takes longer than a third of a pass of a small model.
"""


def _emit_publish(typing_context: Any, address: Any, value: Any) -> Any:
    """Write an int64 that other threads see after all that was written before it."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        place = builder.inttoptr(values[0], ir.IntType(64).as_pointer())
        builder.store_atomic(values[1], place, ordering="release", align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


def _emit_observe(typing_context: Any, address: Any) -> Any:
    """Read an int64 that another thread published."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        place = builder.inttoptr(values[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(place, ordering="acquire", align=8)

    return types.int64(types.int64), code


def _emit_exchange(typing_context: Any, address: Any, value: Any) -> Any:
    """Write an int64 and return the one before; all threads agree on the order of such exchanges."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        place = builder.inttoptr(values[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("xchg", place, values[1], "seq_cst")

    return types.int64(types.int64, types.int64), code


def _emit_nap(typing_context: Any) -> Any:
    """Sleep for the shortest time there is, where the system has a function for it."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        if os.name == "posix":
            microseconds = ir.IntType(32)
            sleep = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.IntType(32), [microseconds]), "usleep"
            )
            builder.call(sleep, [microseconds(1)])
        return context.get_dummy_value()

    return types.void(), code


_nap: Any = intrinsic(_emit_nap)
_publish: Any = intrinsic(_emit_publish)
_observe: Any = intrinsic(_emit_observe)
_exchange: Any = intrinsic(_emit_exchange)


@inlined
def meet(arrivals: Int, thread: Int, num_threads: Int, meeting: Int) -> None:
    """Wait until all threads have come to a meeting.

    Args:
        arrivals: address of int64, `LINE` of them for each thread: its last meeting, and how often it waited long.
        thread: which one this is.
        num_threads: how many there are.
        meeting: its number, one higher each time.
    """
    if num_threads == 1:
        return
    _publish(arrivals + 8 * LINE * thread, meeting)
    for other in range(num_threads):
        looks = 0
        while _observe(arrivals + 8 * LINE * other) < meeting:
            looks += 1
            if looks > _LOOKS:
                _nap()
        if looks > _LOOKS:
            long_waits = arrivals + 8 * LINE * thread + 8
            store_long(long_waits, load_long(long_waits) + 1)


@inlined
def post(mailbox: Int, job: Int, num_threads: Int) -> int:
    """Tell all workers of a job; returns which of them sleep, a bit for each thread.

    Args:
        mailbox: address of int64: the number of the last job, then, `LINE` apart, what each thread does.
        job: its number.
        num_threads: workers and whoever posts.
    """
    _exchange(mailbox, job)
    sleeping = 0
    for thread in range(1, num_threads):
        if _exchange(mailbox + 8 * LINE * thread, _AWAKE) == _ASLEEP:
            sleeping |= 1 << thread
    return sleeping


@inlined
def next_job(mailbox: Int, thread: Int, job: Int, patience: Int) -> int:
    """Wait for the job after one; returns its number, or that of the last one where this thread is to sleep."""
    for _ in range(patience):
        found = _observe(mailbox)
        if found != job:
            return found
    _exchange(mailbox + 8 * LINE * thread, _ASLEEP)
    found = _observe(mailbox)
    if found != job:
        _exchange(mailbox + 8 * LINE * thread, _AWAKE)
    return found
