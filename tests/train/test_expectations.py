"""Teachers are asked once, of every sequence; what they said is read in every epoch, and gone when the run ends."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from stentor.config import Recipe
from stentor.errors import InterruptedRunError, UserError
from stentor.model.expected import unpacked
from stentor.model.loss import mean_logits
from stentor.shards.pack import PackedSequences
from stentor.train import expectations, loop
from stentor.train.distributed import World
from stentor.train.expectations import FOLDER, Expectations
from stentor.train.loop import train
from stentor.train.teacher import load_teacher

CPU = torch.device("cpu")
KEPT = 16


def taught(recipe: Recipe, teacher, **changes) -> Recipe:
    changes = {"teachers": (str(teacher),), "expectations_kept": KEPT, "teacher_share": 0.9, **changes}
    return dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, **changes))


def losses(run_dir) -> list[float]:
    lines = map(json.loads, (run_dir / "log.jsonl").read_text().splitlines())
    return [line["loss_nats"] for line in lines if line["kind"] == "train"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, tiny_recipe, tiny_shards):
    recipe = dataclasses.replace(tiny_recipe, model=dataclasses.replace(tiny_recipe.model, num_hidden_layers=3))
    return train(recipe, tiny_shards, tmp_path_factory.mktemp("teacher") / "run")


@pytest.fixture
def few_a_file(monkeypatch):
    monkeypatch.setattr(expectations, "SEQUENCES_PER_FILE", 5)
    monkeypatch.setattr(expectations, "_TOKENS_AT_ONCE", 100)


@pytest.fixture
def kept(tmp_path, tiny_recipe, tiny_shards, teacher, few_a_file):
    recipe = taught(tiny_recipe, teacher)
    loaded = load_teacher(recipe, tiny_shards.tokenizer, CPU)
    assert loaded
    sequences = PackedSequences(tiny_shards.train, recipe.model.max_position_embeddings)
    return Expectations(tmp_path, recipe, loaded, sequences, data_sha256="0"), loaded, sequences


def test_of_every_sequence_it_is_kept_what_the_teacher_says(kept):
    """The slow twin asks the teacher of one sequence at a time."""
    asked, teacher, sequences = kept
    counts = list(asked.ask(eos_token_id=0))
    assert counts == list(range(1, asked.num_files + 1))
    assert asked.num_files == -(-len(sequences) // 5)
    for index in (0, 4, 5, len(sequences) - 1):
        rows_1TE, (ids_1T, _) = asked.of(np.array([index])), sequences.batch(np.array([index]))
        ids_TK, weights_TK = unpacked(rows_1TE[0])
        q_TV = mean_logits(teacher.models, torch.from_numpy(ids_1T)).float().softmax(dim=-1)
        likeliest = q_TV.topk(KEPT - KEPT // 4, dim=-1)
        torch.testing.assert_close(weights_TK[:, :-4], likeliest.values, rtol=2e-2, atol=1e-4)
        assert (ids_TK[:, 0] == likeliest.indices[:, 0]).float().mean() > 0.9  # ties may fall either way


def test_rows_come_in_the_order_asked_for(kept):
    asked, *_ = kept
    list(asked.ask(eos_token_id=0))
    both = asked.of(np.array([7, 2]))
    assert torch.equal(both[0], asked.of(np.array([7]))[0])
    assert torch.equal(both[1], asked.of(np.array([2]))[0])


def test_several_processes_ask_for_the_same(kept, tmp_path, monkeypatch):
    asked, *_ = kept
    list(asked.ask(eos_token_id=0))
    alone = asked.of(np.arange(12))
    asked.remove()
    monkeypatch.setattr(World, "barrier", lambda _: None)
    first, second = World(0, 2), World(1, 2)
    with pytest.raises(FileNotFoundError):
        list(asked.ask(eos_token_id=0, world=first))  # the other one's are missing
    list(asked.ask(eos_token_id=0, world=second))
    assert torch.equal(asked.of(np.arange(12)), alone)


def test_what_is_there_is_not_asked_again(kept, monkeypatch):
    asked, *_ = kept
    questions = iter(asked.ask(eos_token_id=0))
    assert (next(questions), next(questions)) == (1, 2)
    written: list[int] = []
    write = Expectations._write
    monkeypatch.setattr(Expectations, "_write", lambda self, n, s: (written.append(n), write(self, n, s)))
    list(asked.ask(eos_token_id=0))
    assert written == list(range(2, asked.num_files))


def test_a_file_cut_short_is_asked_again(kept):
    asked, *_ = kept
    list(asked.ask(eos_token_id=0))
    whole = asked.of(np.arange(5))
    path = asked._path(0)
    path.write_bytes(path.read_bytes()[:-2])
    list(asked.ask(eos_token_id=0))
    assert torch.equal(asked.of(np.arange(5)), whole)


def test_a_file_that_names_tokens_there_are_not_is_asked_again(kept):
    asked, *_ = kept
    list(asked.ask(eos_token_id=0))
    whole, path = asked.of(np.arange(5)), asked._path(0)
    path.write_bytes(b"\xff\xff" + path.read_bytes()[2:])
    list(asked.ask(eos_token_id=0))
    assert torch.equal(asked.of(np.arange(5)), whole)


def test_another_teacher_data_or_number_has_other_files(kept, tmp_path, tiny_recipe, teacher):
    asked, loaded, sequences = kept
    recipe = taught(tiny_recipe, teacher)
    others = [
        Expectations(tmp_path, recipe, loaded, sequences, data_sha256="1"),
        Expectations(tmp_path, recipe, dataclasses.replace(loaded, sha256="x"), sequences, data_sha256="0"),
        Expectations(tmp_path, taught(tiny_recipe, teacher, expectations_kept=8), loaded, sequences, data_sha256="0"),
    ]
    assert len({other._folder for other in (asked, *others)}) == 4


def test_a_student_learns_much_as_beside_its_teacher(tmp_path, tiny_recipe, tiny_shards, teacher):
    kept, beside = (
        train(taught(tiny_recipe, teacher, expectations_kept=count), tiny_shards, tmp_path / str(count))
        for count in (32, 0)
    )
    assert losses(kept)[0] == pytest.approx(losses(beside)[0], rel=1e-6)
    assert losses(kept)[-1] == pytest.approx(losses(beside)[-1], rel=0.05)
    assert losses(kept) != losses(beside)
    assert not (kept / FOLDER).exists()


def test_a_run_that_is_stopped_while_asking_goes_on(
    tmp_path, tiny_recipe, tiny_shards, teacher, few_a_file, monkeypatch
):
    recipe, run = taught(tiny_recipe, teacher), tmp_path / "run"
    whole = train(recipe, tiny_shards, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "stop_requests", lambda: _Stopping())
        with pytest.raises(InterruptedRunError, match=r"while teachers were asked, 1 of \d+ parts are kept"):
            train(recipe, tiny_shards, run)
    assert len(list((run / FOLDER).glob("*/*.bin"))) == 1
    assert losses(train(recipe, tiny_shards, run)) == losses(whole)


class _Stopping:
    def __enter__(self):
        return lambda: True

    def __exit__(self, *_) -> None:
        return None


@pytest.mark.parametrize("count", [-4, 6])
def test_numbers_that_cannot_be_kept_are_refused(tiny_recipe, teacher, count):
    with pytest.raises(UserError, match="expectations_kept"):
        taught(tiny_recipe, teacher, expectations_kept=count)
