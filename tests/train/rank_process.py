"""One of the processes of a run, as torchrun would start it; test_distributed.py tells why.

Importing torch takes seconds, so a process serves many requests. A request is a line of JSON on stdin: `run`, and
perhaps
    `train`: changes of the recipe's section, and `other`: those of the second process alone;
    `resume`: as in `train`;
    `rank`: the process that at `step` does what `then` says: `stop` asks itself to, `die` dies on the spot, `fail`
        raises what no user could mend, `spoil` changes one of its weights, `nan` makes that no number;
    `rounds`: the process whose optimizers' sums round otherwise.
The answer is a line of JSON: `code` and `message` of what was raised, if anything, whether the process `echoed`
another's error, the number of `records` that its observer saw, and the SHA-256 of all `weights` and `state`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stentor.config import Recipe
from stentor.errors import EchoedError, StentorError
from stentor.shards.build import Shards, open_shards
from stentor.train import loop
from stentor.train.distributed import World, joined
from stentor.train.optimizers import Optimizers

DIED = 77


def sha256(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def strike(then: str, run: loop._Run) -> None:
    if then == "stop":
        os.kill(os.getpid(), signal.SIGTERM)
    elif then == "die":
        os._exit(DIED)
    elif then == "fail":
        raise RuntimeError("a bug")
    else:
        run.model.embedding_VD[5, 0] += 1e-3 if then == "spoil" else float("nan")


def rounded_otherwise(step: Callable[..., None]) -> Callable[..., None]:
    @torch.no_grad()
    def changed(optimizers: Optimizers, **arguments: Tensor) -> None:
        step(optimizers, **arguments)
        for weight in optimizers.parameters.values():
            weight *= 1 + 1e-6

    return changed


def serve(request: dict, recipe: Recipe, shards: Shards) -> dict:
    seen: list[dict] = []
    runs: list[loop._Run] = []

    def update_then(update: Callable[[loop._Run], None], world: World) -> Callable[[loop._Run], None]:
        def changed(run: loop._Run) -> None:
            runs[:] = [run]
            update(run)
            if request.get("rank") == world.rank and request["step"] == run.state.step:
                strike(request["then"], run)

        return changed

    changes = request.get("train", {}) | (request.get("other", {}) if os.environ["RANK"] == "1" else {})
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, **changes))
    try:
        with joined() as world, pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop._Run, "update", update_then(loop._Run.update, world))
            if request.get("rounds") == world.rank:
                patch.setattr(Optimizers, "step", rounded_otherwise(Optimizers.step))
            with joined() as same, world.in_turn():
                assert same is world
                with Path(f"{request['run']}.turns").open("a") as file:
                    file.write(f"{world.rank} ")
            resume = request.get("resume", "auto")
            loop.train(recipe, shards, Path(request["run"]), resume=resume, observer=seen.append, world=world)
    except Exception as error:
        code = error.exit_code if isinstance(error, StentorError) else 1
        return {"code": code, "message": str(error), "echoed": isinstance(error, EchoedError)}
    state = {"weights": sha256(runs[0].model.state_dict()), "state": sha256(runs[0].step.state())} if runs else {}
    return {"code": 0, "message": "", "echoed": False, "records": len(seen), **state}


def main() -> None:
    recipe, shards = Recipe.load(sys.argv[1]), open_shards(Path(sys.argv[2]))
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line), recipe, shards)), flush=True)
    os._exit(0)  # at once: unloading torch takes seconds


if __name__ == "__main__":
    main()
