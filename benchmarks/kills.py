"""Claim: a run that is killed anywhere, or finds its disk full anywhere, ends with the bytes of an undisturbed run.

usage: python benchmarks/kills.py

Each recipe of `tests/faults/killing.py` is trained from real text on this machine's CPU: AdamW; Muon with averaged
weights and Qwen3's norms; float16 with a loss scale that adapts and INT8 in the forward pass. Its runs get a SIGKILL at
random moments, at every call that changes the disk in one whole save and at random ones in the others, half-way through
what they write; and the disk fills at random calls. Each is then resumed to its end, and all files of its checkpoints,
every loss and every evaluation are compared. Flushes to the disk are counted but left out: this is about processes that
die, not about power cuts.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from record import Claim, record

from stentor.config import Recipe
from stentor.prepare import prepare
from stentor.run import unwatched

sys.path.append(str(Path(__file__).parents[1] / "tests" / "faults"))
from killing import KILLED, RECIPES, Trainer, World, write_recipes

KILLS_AT_RANDOM, KILLS_IN_OTHER_SAVES, FULL_DISKS = 60, 10, 15
LEAST = 200
DISK_FULL = 3
SMALL = {
    "text.max_bytes": 150_000,
    "tokenizer.vocab_size": 512,
    "model.vocab_size": 512,
    "model.hidden_size": 32,
    "model.intermediate_size": 64,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 2,
    "model.num_key_value_heads": 2,
    "model.head_dim": 16,
    "model.max_position_embeddings": 32,
    "train.tokens": 25 * 4 * 32,
    "train.global_batch_tokens": 8 * 32,
    "train.micro_batch_size": 3,
    "train.optimizer": "adamw",
    "train.lr": 5e-3,
    "train.warmup_steps": 3,
    "train.eval_every": 4,
    "train.save_every": 3,
}
"""13 updates, 4 evaluations and 6 or 7 saves: what a run does, in a fraction of a second."""


def disturb(world: World, folder: Path, draw: random.Random) -> Counter[str]:
    """Disturb the runs of one recipe in every way, and count what was done and what differed."""
    tally: Counter[str] = Counter()
    while tally["kills at random moments"] < KILLS_AT_RANDOM:
        run = folder / f"random-{tally.total()}"
        for _ in range(draw.randint(1, 3)):
            if world(run, kill_after_s=draw.uniform(0, world.seconds))["code"] != KILLED:
                break  # it had ended
            tally["kills at random moments"] += 1
        _resume(world, run, tally)
    every_call = list(world.fullest_save)
    others = [call for call in range(1, len(world.calls) + 1) if call not in world.fullest_save]
    for die_at in every_call + draw.sample(others, KILLS_IN_OTHER_SAVES):
        run = folder / f"save-{die_at}"
        assert world(run, only_in_saves=True, die_at=die_at)["code"] == KILLED
        tally["kills inside saves"] += 1
        _resume(world, run, tally)
    tally["of these, at every call of one save"] = len(every_call)
    for full_from in draw.sample(range(1, len(world.calls) - 40), FULL_DISKS):  # from then on even naming has room
        run = folder / f"full-{full_from}"
        assert world(run, only_in_saves=True, full_from=full_from)["code"] == DISK_FULL
        tally["full disks"] += 1
        _resume(world, run, tally)
    return tally


def _resume(world: World, run: Path, tally: Counter[str]) -> None:
    tally["runs resumed"] += 1
    tally["results that differ"] += world.resumed(run) != world.undisturbed


def disturb_all(folder: Path) -> dict[str, dict[str, int]]:
    """Prepare the data, and disturb the runs of all recipes; returns the counts of each."""
    recipe, draw = Recipe.load("tiny", overrides=SMALL), random.Random(1)
    prepare(recipe, folder / "data", watch=unwatched)
    recipes = folder / "recipes"
    recipes.mkdir()
    trainer, tallies = Trainer(folder / "data" / "shards", write_recipes(recipe, recipes)), {}
    for name in RECIPES:
        place = folder / name
        place.mkdir()
        tallies[name] = dict(disturb(World(trainer, name, place), place, draw))
        print(name, tallies[name], flush=True)
    trainer.close()
    return tallies


def main() -> None:
    """Disturb runs of every recipe and record what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        tallies = disturb_all(Path(folder))
    total = Counter[str]()
    for tally in tallies.values():
        total.update(tally)
    in_saves = total["kills inside saves"]
    kills = total["kills at random moments"] + in_saves
    claims = [
        Claim(what="kills of a run (SIGKILL)", value=kills, unit="", better="higher", target=LEAST),
        Claim(what="of these inside a save", value=in_saves, unit="", better="higher", target=LEAST / 4),
        Claim(what="full disks during a save", value=total["full disks"], unit="", better="higher"),
        Claim(
            what="resumed runs whose weights, state, losses or evaluations differ in a bit",
            value=total["results that differ"], unit="", better="lower", target=0,
        ),
    ]  # fmt: skip
    print(record("kills", claims, tallies).read_text())


if __name__ == "__main__":
    main()
