"""The command line run in this process, and a little world of text, recipe, data and run for it to work in."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stentor.artifacts import write_file
from stentor.cli.main import main
from stentor.cli.prepare import watch
from stentor.config import Recipe, TextConfig
from stentor.prepare import prepare
from stentor.train.loop import train

SUBJECTS = ["a cat", "the old man", "a river", "one of us", "the house", "my friend", "no bird", "every child"]
VERBS = ["saw", "followed", "did not know", "sang of", "waited for", "came back to", "dreamt of", "left"]
OBJECTS = ["the moon", "a long road", "the harbour", "somebody else", "its own voice", "the garden", "a red door"]


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> dict:
        """The one JSON object on stdout."""
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1
        return json.loads(self.out)

    def fails(self, code: int, *sentences: str) -> None:
        """Check a refusal: the code, an empty stdout, and one sentence with its fix instead of a traceback."""
        assert (self.code, self.out) == (code, ""), self.err
        assert "Traceback" not in self.err
        for sentence in sentences:
            assert sentence in self.err


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(monkeypatch, capsys) -> Cli:
    """Return a function that runs `stentor` with arguments, in this process."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["stentor", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code or 0
        assert isinstance(code, int)
        return Outcome(code, captured.out, captured.err)

    return run


@dataclass(frozen=True)
class World:
    """A text, a recipe for it, and its data and run folders."""

    folder: Path

    text = property(lambda self: self.folder / "text.jsonl")
    recipe = property(lambda self: self.folder / "tiny-test.toml")
    data = property(lambda self: self.folder / "data")
    run = property(lambda self: self.folder / "run")


def sentences(seed: int) -> str:
    """Return some sentences, the same for the same seed."""
    generator = np.random.default_rng(seed)
    chosen = (" ".join(map(generator.choice, (SUBJECTS, VERBS, OBJECTS))) for _ in range(8 + seed % 9))
    return " ".join(f"{sentence.capitalize()}." for sentence in chosen)


def make_world(folder: Path, recipe: Recipe) -> World:
    """Write a text and a recipe into a folder; data and run are not made yet."""
    world = World(folder)
    lines = [json.dumps({"text": sentences(seed)}) for seed in range(142)]
    write_file(world.text, "\n".join(lines) + "\n")
    text = TextConfig(source=str(world.text), validation="take:9", min_characters=20)
    write_file(world.recipe, dataclasses.replace(recipe, text=text).to_toml())
    return world


@pytest.fixture
def new_world(tmp_path, tiny_recipe) -> World:
    """Return a world whose data and run are still to be made."""
    return make_world(tmp_path / "world", tiny_recipe)


@pytest.fixture(scope="session")
def world(tmp_path_factory, tiny_recipe) -> World:
    """Return a world with data and a finished run, which no test may change."""
    world = make_world(tmp_path_factory.mktemp("cli") / "world", tiny_recipe)
    recipe = Recipe.load(world.recipe)
    train(recipe, prepare(recipe, world.data, watch=watch).shards, world.run)
    return world
