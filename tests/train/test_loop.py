"""Training: it learns, ends exactly, keeps best and last, stops on request, and resumes bit for bit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from stentor.artifacts import write_file
from stentor.config import Recipe
from stentor.errors import InterruptedRunError, UsageError, UserError
from stentor.evaluate.text import evaluate
from stentor.model.folder import read_model_folder, resolve_model
from stentor.train import loop
from stentor.train.loop import train


def weights_sha256(run_dir, step: int) -> dict[str, str]:
    folder = run_dir / "checkpoints" / f"step-{step:07d}"
    names = ("model.safetensors", "training_state.safetensors", "manifest.json")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def records(run_dir, kind: str) -> list[dict]:
    lines = (run_dir / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def losses(run_dir) -> list[tuple]:
    return [(r["step"], r["loss_nats"], r["lr"], r["grad_norm"], r["tokens_seen"]) for r in records(run_dir, "train")]


def with_train(recipe: Recipe, **changes) -> Recipe:
    return dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, **changes))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, tiny_recipe, tiny_shards):
    return train(tiny_recipe, tiny_shards, tmp_path_factory.mktemp("whole") / "run")


def test_it_learns_and_spends_the_budget_exactly(uninterrupted, tiny_recipe):
    trained = records(uninterrupted, "train")
    assert [r["step"] for r in trained] == list(range(1, 14))
    assert trained[-1]["tokens_seen"] == tiny_recipe.train.tokens
    assert trained[-1]["tokens_seen"] - trained[-2]["tokens_seen"] == 4 * 32
    assert trained[-1]["loss_nats"] < trained[0]["loss_nats"] - 0.5
    assert records(uninterrupted, "finished")[0] == {"kind": "finished", "step": 13, "best_step": 13}


def test_it_evaluates_when_due_and_at_the_end(uninterrupted):
    evaluations = records(uninterrupted, "evaluation")
    assert [r["step"] for r in evaluations] == [4, 8, 12, 13]
    assert {"loss_nats", "perplexity", "bits_per_byte", "num_tokens", "num_bytes", "tokens_seen"} <= set(evaluations[0])


def test_best_and_last_are_kept_and_the_rest_is_dropped(uninterrupted):
    assert json.loads((uninterrupted / "latest.json").read_text()) == {"step": 13}
    assert json.loads((uninterrupted / "best.json").read_text()) == {"step": 13}
    assert sorted(p.name for p in (uninterrupted / "checkpoints").iterdir()) == ["step-0000012", "step-0000013"]


def test_the_run_is_a_model_that_scores_what_the_log_says(uninterrupted, tiny_shards):
    ids = tiny_shards.validation.token_ids.tolist()
    texts, start = [], 0
    for place, token_id in enumerate(ids):
        if token_id == tiny_shards.tokenizer.eos_token_id:
            texts.append(tiny_shards.tokenizer.decode(ids[start:place]))
            start = place + 1
    precise = evaluate(uninterrupted, texts)
    logged = records(uninterrupted, "evaluation")[-1]
    assert precise.num_tokens == logged["num_tokens"]
    assert precise.num_bytes == logged["num_bytes"]
    assert precise.bits_per_byte == pytest.approx(logged["bits_per_byte"], rel=5e-3)


def test_the_same_recipe_gives_the_same_bytes(uninterrupted, tiny_recipe, tiny_shards, tmp_path):
    again = train(tiny_recipe, tiny_shards, tmp_path / "run")
    assert weights_sha256(again, 13) == weights_sha256(uninterrupted, 13)
    assert losses(again) == losses(uninterrupted)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop_at", [1, 5, 8, 12])
def test_stopped_and_resumed_equals_uninterrupted(uninterrupted, tiny_recipe, tiny_shards, tmp_path, signum, stop_at):
    def stop(record: dict) -> None:
        if record["kind"] == "train" and record["step"] == stop_at:
            os.kill(os.getpid(), signum)

    with pytest.raises(InterruptedRunError, match=f"stopped at step {stop_at} of 13"):
        train(tiny_recipe, tiny_shards, tmp_path / "run", observer=stop)
    assert json.loads((tmp_path / "run" / "latest.json").read_text()) == {"step": stop_at}
    seen = []
    train(tiny_recipe, tiny_shards, tmp_path / "run", observer=seen.append)
    assert seen[0]["kind"] == "start"
    assert seen[0]["step"] == stop_at
    assert weights_sha256(tmp_path / "run", 13) == weights_sha256(uninterrupted, 13)
    assert losses(tmp_path / "run") == losses(uninterrupted)


def test_a_crash_after_the_last_checkpoint_loses_only_what_came_after(
    uninterrupted, tiny_recipe, tiny_shards, tmp_path
):
    class Crash(BaseException):
        pass

    def crash(record: dict) -> None:
        if record["kind"] == "train" and record["step"] == 11:
            raise Crash

    with pytest.raises(Crash):
        train(tiny_recipe, tiny_shards, tmp_path / "run", observer=crash)
    assert json.loads((tmp_path / "run" / "latest.json").read_text()) == {"step": 9}
    train(tiny_recipe, tiny_shards, tmp_path / "run")
    assert losses(tmp_path / "run") == losses(uninterrupted)
    assert weights_sha256(tmp_path / "run", 13) == weights_sha256(uninterrupted, 13)


def test_a_damaged_latest_checkpoint_is_passed_over(uninterrupted, tiny_recipe, tiny_shards, tmp_path):
    def stop(record: dict) -> None:
        if record["kind"] == "train" and record["step"] == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError):
        train(tiny_recipe, tiny_shards, tmp_path / "run", observer=stop)
    damaged = tmp_path / "run" / "checkpoints" / "step-0000008" / "training_state.safetensors"
    write_file(damaged, damaged.read_bytes()[:-1] + b"?")
    seen = []
    train(tiny_recipe, tiny_shards, tmp_path / "run", observer=seen.append)
    assert "passing over a damaged checkpoint" in seen[0]["message"]
    assert seen[1]["step"] == 6
    assert weights_sha256(tmp_path / "run", 13) == weights_sha256(uninterrupted, 13)


def test_a_finished_run_is_left_as_it_is(uninterrupted, tiny_recipe, tiny_shards):
    before = weights_sha256(uninterrupted, 13)
    count = len(records(uninterrupted, "train"))
    train(tiny_recipe, tiny_shards, uninterrupted)
    assert weights_sha256(uninterrupted, 13) == before
    assert len(records(uninterrupted, "train")) == count


def test_another_recipe_is_refused_with_what_changed(uninterrupted, tiny_recipe, tiny_shards):
    with pytest.raises(UserError, match=r"it says 'lr = 0\.005', now 'lr = 0\.001'"):
        train(with_train(tiny_recipe, lr=1e-3), tiny_shards, uninterrupted)


def test_resume_never_refuses_a_run_that_exists(uninterrupted, tiny_recipe, tiny_shards):
    with pytest.raises(UserError, match="already exists"):
        train(tiny_recipe, tiny_shards, uninterrupted, resume="never")
    with pytest.raises(UsageError, match="--resume maybe"):
        train(tiny_recipe, tiny_shards, uninterrupted, resume="maybe")


def test_accumulation_equals_one_large_batch(tiny_recipe, tiny_shards, tmp_path):
    recipe = with_train(tiny_recipe, precision="float32", tokens=3 * 8 * 32)
    small = train(recipe, tiny_shards, tmp_path / "small")
    large = train(with_train(recipe, micro_batch_size=8), tiny_shards, tmp_path / "large")
    for (_, a, *_), (_, b, *_) in zip(losses(small), losses(large), strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    ours, theirs = (load_file(resolve_model(run) / "model.safetensors") for run in (small, large))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=2e-3, rtol=0)


def test_masking_across_documents_changes_the_loss(tiny_recipe, tiny_shards, tmp_path):
    recipe = with_train(tiny_recipe, tokens=2 * 8 * 32)
    plain = train(recipe, tiny_shards, tmp_path / "plain")
    masked = train(with_train(recipe, mask_across_documents=True), tiny_shards, tmp_path / "masked")
    assert losses(plain) != losses(masked)


def test_a_loss_that_is_no_number_stops_before_the_weights(tiny_recipe, tiny_shards, tmp_path, monkeypatch):
    real = loop.shifted_loss
    calls = []

    def poisoned(*args, **kwargs):
        calls.append(1)
        total_nats, count = real(*args, **kwargs)
        return (total_nats * float("nan") if len(calls) > 3 * 5 else total_nats), count

    monkeypatch.setattr(loop, "shifted_loss", poisoned)
    with pytest.raises(UserError, match="at step 6 the loss is nan") as caught:
        train(tiny_recipe, tiny_shards, tmp_path / "run")
    assert "lower train.lr" in caught.value.fix
    monkeypatch.undo()
    assert json.loads((tmp_path / "run" / "latest.json").read_text()) == {"step": 4}
    assert read_model_folder(tmp_path / "run").tensors


def test_what_does_not_fit_together_is_refused_before_anything_is_written(tiny_recipe, tiny_shards, tmp_path):
    small = dataclasses.replace(
        tiny_recipe,
        tokenizer=dataclasses.replace(tiny_recipe.tokenizer, vocab_size=300),
        model=dataclasses.replace(tiny_recipe.model, vocab_size=300),
    )
    with pytest.raises(UserError, match="320 tokens"):
        train(small, tiny_shards, tmp_path / "run")
    long = dataclasses.replace(
        tiny_recipe,
        model=dataclasses.replace(tiny_recipe.model, max_position_embeddings=1 << 20),
        train=dataclasses.replace(tiny_recipe.train, tokens=1 << 20, global_batch_tokens=1 << 20),
    )
    with pytest.raises(UserError, match=r"1048576|1,048,576"):
        train(long, tiny_shards, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_processes_cannot_share_a_run(tiny_recipe, tiny_shards, tmp_path):
    from stentor.artifacts import locked_directory

    with (
        locked_directory(tmp_path / "run"),
        pytest.raises(UserError, match=f"in use by another process .*{os.getpid()}"),
    ):
        train(tiny_recipe, tiny_shards, tmp_path / "run")
