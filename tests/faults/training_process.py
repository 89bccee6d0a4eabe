"""Trains one run per request, each in a child that dies as the request says; killing.py asks it.

One process pays for importing torch and for its first steps, computes on one thread, so that no child inherits a
lock, and forks. Flushes to the disk are counted but left out: a killed process loses nothing it has written.
A request is a line of JSON on stdin: `run`, the name of its `recipe`, and one of
    `die_at`: the call that changes the disk at which the child kills itself, half-way through what it writes;
    `full_from`: the call from which on the disk is full;
    `kill_after`: the line of the log after which, `delay` seconds later, the system kills the child wherever it is
        (an alarm that nobody handles: as sudden as SIGKILL, and never late on a busy machine);
    `kill_after_s`: the seconds after which the parent kills the child, wherever it is.
`only_in_saves` counts calls inside checkpoints alone, and leaves the disk all right elsewhere. The answer is a line of
JSON: `code`, `message`, `calls`, the names of all that were counted, and `saves`, how many of them were counted before
and after each save. A kill is a SIGKILL, an alarm aside.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from stentor.config import Recipe
from stentor.errors import StentorError
from stentor.shards.build import Shards, open_shards
from stentor.train import loop
from test_artifacts import MISBEHAVED, install_faults

REMOVES = ("unlink", "rmdir", "open")
"""What still works on a full disk."""


def answer(request: dict, recipes: dict[str, Recipe], shards: Shards) -> dict:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            said = train(request, recipes[request["recipe"]], shards)
            os.write(writer, json.dumps(said).encode())
            os._exit(said["code"])
        finally:
            os._exit(MISBEHAVED)
    os.close(writer)
    if "kill_after_s" in request:
        time.sleep(request["kill_after_s"])
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"code": code, **(json.loads(said) if said else {})}


def train(request: dict, recipe: Recipe, shards: Shards) -> dict:
    patch, calls, saves = pytest.MonkeyPatch(), [], []
    die_at, full_from = request.get("die_at"), request.get("full_from")
    counting = not request.get("only_in_saves")

    def strike(name, before=lambda: None):
        if not counting:
            return
        calls.append(name)
        if len(calls) == die_at:
            before()
            os.kill(os.getpid(), signal.SIGKILL)
        if full_from and len(calls) >= full_from and name not in REMOVES:
            before()
            raise OSError(errno.ENOSPC, "No space left on device")

    real_save = loop.save_checkpoint

    def save(*arguments):
        nonlocal counting
        counting, before = True, len(calls)
        real_save(*arguments)
        saves.append((before, len(calls)))
        counting = not request.get("only_in_saves")

    patch.setattr(loop, "save_checkpoint", save)
    install_faults(patch, strike)
    lines = 0

    def observe(record: dict) -> None:
        nonlocal lines
        lines += 1
        if lines == request.get("kill_after"):
            signal.setitimer(signal.ITIMER_REAL, request["delay"])

    try:
        loop.train(recipe, shards, Path(request["run"]), observer=observe)
    except StentorError as error:
        return {"code": error.exit_code, "message": str(error), "calls": calls, "saves": saves}
    return {"code": 0, "message": "", "calls": calls, "saves": saves}


def main() -> None:
    torch.set_num_threads(1)
    os.fsync = lambda handle: None
    shards, recipes = open_shards(Path(sys.argv[1])), {Path(path).stem: Recipe.load(path) for path in sys.argv[2:]}
    for recipe in recipes.values():
        with tempfile.TemporaryDirectory() as folder:
            loop.train(recipe, shards, Path(folder))
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), recipes, shards)), flush=True)
    os._exit(0)  # at once: unloading torch takes seconds


if __name__ == "__main__":
    main()
