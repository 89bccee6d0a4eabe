"""Training: it learns, ends exactly, keeps best and last, stops on request, and resumes bit for bit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from stentor.artifacts import write_file
from stentor.config import Recipe
from stentor.errors import InterruptedRunError, UsageError, UserError
from stentor.evaluate.text import evaluate
from stentor.model.flops import training_flops_per_token
from stentor.model.folder import read_model_folder, resolve_model
from stentor.model.init import QUERY_GAIN, initialize
from stentor.model.llama import Llama
from stentor.model.measure import measure
from stentor.model.names import from_hugging_face, to_hugging_face
from stentor.model.scorer import TorchScorer
from stentor.train import loop
from stentor.train import step as step_module
from stentor.train.build import make_model
from stentor.train.loop import train
from stentor.train.precision import FIRST_SCALE
from stentor.train.schedule import learning_rate_factor


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


def test_scales_are_logged_with_every_evaluation(uninterrupted):
    scales = records(uninterrupted, "scales")
    assert [(r["step"], r["tokens_seen"]) for r in scales] == [
        (r["step"], r["tokens_seen"]) for r in records(uninterrupted, "evaluation")
    ]
    assert all(len(r["weights"]["qkv"]) == len(r["activations"]["residual"]) == 2 for r in scales)
    assert scales[0]["weights"]["down"] != scales[-1]["weights"]["down"]


def test_measuring_scales_changes_no_bit(uninterrupted, tiny_recipe, tiny_shards, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "measure_scales", lambda *args, **kwargs: {})
    run = train(tiny_recipe, tiny_shards, tmp_path / "run")
    assert weights_sha256(run, 13) == weights_sha256(uninterrupted, 13)
    assert losses(run) == losses(uninterrupted)


def test_the_start_says_what_a_token_costs_and_what_it_is_measured_on(uninterrupted, tiny_recipe, tiny_shards):
    start = records(uninterrupted, "start")[0]
    assert start["flops_per_token"] == training_flops_per_token(tiny_recipe.model)
    assert start["peak_flops"] is None
    assert start["device_name"] == "cpu"
    assert start["held_out_sha256"] == tiny_shards.validation.header.payload_sha256
    assert start["tokenizer_sha256"] == tiny_shards.tokenizer.sha256


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


# --- not enough memory ---


@pytest.fixture
def little_memory(monkeypatch):
    """Let a device hold micro-batches of one sequence only, from the given micro-batch on."""

    def hold(from_call: int) -> None:
        real, count = step_module.shifted_loss, -1

        def loss(model, inputs_BT, *args, **kwargs):
            nonlocal count
            count += 1
            if len(inputs_BT) > 1 and count >= from_call:
                raise torch.OutOfMemoryError("tried to allocate 9 GiB")
            return real(model, inputs_BT, *args, **kwargs)

        monkeypatch.setattr(step_module, "shifted_loss", loss)

    return hold


@pytest.mark.parametrize("out_at", [1, 8])
def test_the_micro_batch_proposed_when_memory_is_short_works_in_the_same_run(
    uninterrupted, tiny_recipe, tiny_shards, tmp_path, little_memory, out_at
):
    little_memory(from_call=3 * (out_at - 1))
    with pytest.raises(UserError, match="micro-batches of 3 sequences do not fit") as caught:
        train(tiny_recipe, tiny_shards, tmp_path / "run")
    assert caught.value.fix == "set train.micro_batch_size=1: steps keep their 256 tokens"
    seen = []
    train(with_train(tiny_recipe, micro_batch_size=1), tiny_shards, tmp_path / "run", observer=seen.append)
    assert seen[0]["message"] == "going on with micro-batches of 1 sequences, not 3: sums round otherwise"
    assert seen[1]["step"] == {1: 0, 8: 6}[out_at]
    assert "micro_batch_size = 1" in (tmp_path / "run" / "recipe.toml").read_text()
    tokens = [(r["step"], r["tokens_seen"]) for r in records(tmp_path / "run", "train")]
    assert tokens == [(r["step"], r["tokens_seen"]) for r in records(uninterrupted, "train")]
    ours, theirs = ([r["loss_nats"] for r in records(run, "train")] for run in (tmp_path / "run", uninterrupted))
    assert ours == pytest.approx(theirs, abs=0.02)


def test_a_smaller_micro_batch_with_another_setting_is_refused(uninterrupted, tiny_recipe, tiny_shards):
    before = (uninterrupted / "recipe.toml").read_text()
    with pytest.raises(UserError, match="started with another recipe"):
        train(with_train(tiny_recipe, micro_batch_size=1, seed=5), tiny_shards, uninterrupted)
    assert (uninterrupted / "recipe.toml").read_text() == before


def test_a_recipe_that_is_gone_is_written_again(tiny_recipe, tiny_shards, tmp_path):
    recipe = with_train(tiny_recipe, tokens=2 * 8 * 32)
    run = train(recipe, tiny_shards, tmp_path / "run")
    (run / "recipe.toml").unlink()
    train(recipe, tiny_shards, run)
    assert (run / "recipe.toml").read_text() == recipe.to_toml()


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


# --- everything at once ---


EVERYTHING = {
    "optimizer": "muon",
    "schedule": "linear",
    "average_decay": 0.9,
    "initializer": "scaled",
    "fake_quantize": "int8",
    "float32_parts": "ends",
    "embedding_lr": 8e-3,
    "mask_across_documents": True,
}


@pytest.fixture(scope="module")
def full_recipe(tiny_recipe) -> Recipe:
    """Return a recipe that asks for all there is, of a Qwen3 model of three layers that share key heads."""
    model = dataclasses.replace(tiny_recipe.model, carrier="qwen3", num_hidden_layers=3, num_key_value_heads=1)
    return with_train(dataclasses.replace(tiny_recipe, model=model), **EVERYTHING)


@pytest.fixture(scope="module")
def full_uninterrupted(tmp_path_factory, full_recipe, tiny_shards):
    return train(full_recipe, tiny_shards, tmp_path_factory.mktemp("whole") / "run")


def stopped_at(step: int):
    def stop(record: dict) -> None:
        if record["kind"] == "train" and record["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return stop


@pytest.mark.parametrize("stop_at", [1, 4, 6, 12])
def test_all_there_is_resumes_bit_for_bit(full_uninterrupted, full_recipe, tiny_shards, tmp_path, stop_at):
    with pytest.raises(InterruptedRunError, match=f"stopped at step {stop_at} of 13"):
        train(full_recipe, tiny_shards, tmp_path / "run", observer=stopped_at(stop_at))
    train(full_recipe, tiny_shards, tmp_path / "run")
    assert weights_sha256(tmp_path / "run", 13) == weights_sha256(full_uninterrupted, 13)
    assert losses(tmp_path / "run") == losses(full_uninterrupted)
    assert (tmp_path / "run" / "best.json").read_bytes() == (full_uninterrupted / "best.json").read_bytes()


@pytest.mark.parametrize("precision", ["auto", "float16"])
def test_a_run_stopped_at_every_step_equals_an_uninterrupted_one(
    full_uninterrupted, full_recipe, tiny_shards, tmp_path, precision
):
    recipe, whole = full_recipe, full_uninterrupted
    if precision == "float16":
        recipe = with_train(full_recipe, precision=precision, tokens=5 * 8 * 32)
        whole = train(recipe, tiny_shards, tmp_path / "whole")
    num_steps = recipe.train.tokens // recipe.train.global_batch_tokens
    for step in range(1, num_steps):
        with pytest.raises(InterruptedRunError):
            train(recipe, tiny_shards, tmp_path / "run", observer=stopped_at(step))
    train(recipe, tiny_shards, tmp_path / "run")
    last = records(whole, "finished")[0]["step"]
    assert weights_sha256(tmp_path / "run", last) == weights_sha256(whole, last)
    assert losses(tmp_path / "run") == losses(whole)
    for kind in ("evaluation", "scales"):
        assert records(tmp_path / "run", kind) == records(whole, kind)


def test_all_there_is_learns(full_uninterrupted):
    trained = records(full_uninterrupted, "train")
    assert trained[-1]["loss_nats"] < trained[0]["loss_nats"] - 0.5
    assert [r["step"] for r in records(full_uninterrupted, "evaluation")] == [4, 8, 12, 13]


def test_what_is_kept_and_measured_is_the_mean(full_uninterrupted, full_recipe, tiny_shards):
    folder = full_uninterrupted / "checkpoints" / "step-0000013"
    read = read_model_folder(folder)
    means = from_hugging_face(read.config, read.tensors, origin="test")
    weights = {
        name.removeprefix("weight."): tensor
        for name, tensor in load_file(folder / "training_state.safetensors").items()
        if name.startswith("weight.")
    }
    assert means.keys() == weights.keys()
    assert not any(torch.equal(means[name], weights[name]) for name in means)
    model = make_model(full_recipe, torch.device("cpu"))
    held_out, scores = tiny_shards.validation, []
    for tensors in (means, weights):
        model.load_state_dict(tensors)
        scores.append(
            measure(
                TorchScorer(model),
                held_out.token_ids,
                num_bytes=held_out.num_text_bytes,
                eos_token_id=held_out.eos_token_id,
                batch_size=full_recipe.train.micro_batch_size,
            ).loss_nats
        )
    logged = records(full_uninterrupted, "evaluation")[-1]["loss_nats"]
    assert logged == pytest.approx(scores[0], rel=1e-6)
    assert logged != pytest.approx(scores[1], rel=1e-6)


def test_the_mean_begins_as_the_initial_weights(full_recipe, tiny_shards, tmp_path):
    recipe = with_train(full_recipe, tokens=8 * 32)
    run = train(recipe, tiny_shards, tmp_path / "run")
    model = make_model(recipe, torch.device("cpu"))
    initialize(model, seed=recipe.train.seed, initializer="scaled")
    folder = run / "checkpoints" / "step-0000001"
    read = read_model_folder(folder)
    means = from_hugging_face(read.config, read.tensors, origin="test")
    weights = load_file(folder / "training_state.safetensors")
    for name, first in model.state_dict().items():
        torch.testing.assert_close(means[name], first.lerp(weights[f"weight.{name}"], 9 / 11), atol=1e-6, rtol=1e-5)


def test_norms_that_are_not_learned_stay_as_they_begin(full_recipe, tiny_shards, tmp_path):
    recipe = with_train(full_recipe, learns_norms=False, tokens=3 * 8 * 32)
    run = train(recipe, tiny_shards, tmp_path / "run")
    tensors = load_file(resolve_model(run) / "model.safetensors")
    gains = {name: tensor for name, tensor in tensors.items() if "norm" in name}
    assert len(gains) == 4 * 3 + 1
    for name, gain in gains.items():
        expected = QUERY_GAIN if "q_norm" in name else 1.0
        torch.testing.assert_close(gain, torch.full_like(gain, expected), atol=1e-6, rtol=0)


def test_the_log_says_the_rate_of_every_update(full_uninterrupted, full_recipe):
    expected = [full_recipe.train.lr * learning_rate_factor(step, 13, full_recipe.train) for step in range(13)]
    assert [r["lr"] for r in records(full_uninterrupted, "train")] == pytest.approx(expected)


# --- what is no number ---


@pytest.fixture
def made_models(monkeypatch) -> list[Llama]:
    """Return a list that gets the network of each run."""
    models, real = [], loop.make_model

    def make(*args) -> Llama:
        models.append(real(*args))
        return models[-1]

    monkeypatch.setattr(loop, "make_model", make)
    return models


def spoil_loss(monkeypatch, *, from_call: int, loss: float = 1.0, gradient: float = 1.0, times: int = 1 << 30) -> None:
    """Multiply the loss, or only its gradient, of some micro-batches (counted from 0)."""
    real, count = step_module.shifted_loss, -1

    def spoiled(*args, **kwargs):
        nonlocal count
        count += 1
        nats, num_predicted = real(*args, **kwargs)
        if from_call <= count < from_call + times:
            nats = nats * loss
            nats.register_hook(lambda grad: grad * gradient)
        return nats, num_predicted

    monkeypatch.setattr(step_module, "shifted_loss", spoiled)


@pytest.mark.parametrize("changes", [{}, {"optimizer": "muon", "average_decay": 0.9}], ids=["adamw", "muon, averaged"])
def test_a_loss_that_is_no_number_stops_before_the_weights(
    tiny_recipe, tiny_shards, tmp_path, monkeypatch, made_models, changes
):
    recipe = with_train(tiny_recipe, precision="float32", save_every=5, **changes)
    spoil_loss(monkeypatch, from_call=3 * 5, loss=float("nan"))
    with pytest.raises(UserError, match="at step 6 the loss is nan") as caught:
        train(recipe, tiny_shards, tmp_path / "run")
    assert "lower train.lr" in caught.value.fix
    assert json.loads((tmp_path / "run" / "latest.json").read_text()) == {"step": 5}
    kept = load_file(tmp_path / "run" / "checkpoints" / "step-0000005" / "model.safetensors")
    if changes:
        state = load_file(tmp_path / "run" / "checkpoints" / "step-0000005" / "training_state.safetensors")
        kept = to_hugging_face(recipe.model, {n[7:]: t for n, t in state.items() if n.startswith("weight.")})
    ended = to_hugging_face(recipe.model, made_models[0].state_dict())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in ended.items())
    assert [r["step"] for r in records(tmp_path / "run", "train")] == [1, 2, 3, 4, 5]


def test_a_run_that_stopped_can_go_on_once_its_cause_is_gone(
    uninterrupted, tiny_recipe, tiny_shards, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        spoil_loss(patch, from_call=3 * 7, gradient=float("nan"))
        with pytest.raises(UserError, match="at step 8 the loss is"):
            train(tiny_recipe, tiny_shards, tmp_path / "run")
    train(tiny_recipe, tiny_shards, tmp_path / "run")
    assert losses(tmp_path / "run") == losses(uninterrupted)
    assert weights_sha256(tmp_path / "run", 13) == weights_sha256(uninterrupted, 13)


def test_the_message_names_the_weight_that_is_no_number(tiny_recipe, tiny_shards, tmp_path, made_models):
    def damage(record: dict) -> None:
        if record["kind"] == "train" and record["step"] == 4:
            with torch.no_grad():
                made_models[0].down_LDF[1, 0, 0] = float("nan")

    with pytest.raises(UserError, match=r"at step 5 .*the weights of model\.layers\.1\.mlp\.down_proj\.weight hold"):
        train(with_train(tiny_recipe, eval_every=100), tiny_shards, tmp_path / "run", observer=damage)


def test_the_message_names_the_gradient_that_is_no_number(tiny_recipe, tiny_shards, tmp_path, made_models):
    def damage(record: dict) -> None:
        if record["kind"] == "train" and record["step"] == 4:
            made_models[0].qkv_LED.register_hook(lambda grad: grad.clone().index_fill_(0, torch.tensor([1]), math.inf))

    said = r"the gradient of model\.layers\.1\.self_attn\.q_proj\.weight is not finite"
    with pytest.raises(UserError, match=rf"at step 5 .*its gradient norm inf \({said}"):
        train(with_train(tiny_recipe, precision="float32"), tiny_shards, tmp_path / "run", observer=damage)


def test_an_overflow_in_float16_skips_an_update_and_the_run_goes_on(tiny_recipe, tiny_shards, tmp_path, monkeypatch):
    recipe = with_train(tiny_recipe, precision="float16", tokens=6 * 8 * 32)
    spoil_loss(monkeypatch, from_call=3 * 3, gradient=float("inf"), times=1)
    run = train(recipe, tiny_shards, tmp_path / "run")
    trained = records(run, "train")
    assert [r["step"] for r in trained] == [1, 2, 3, 4, 5, 6]
    assert [r["grad_norm"] is None for r in trained] == [step == 4 for step in range(1, 7)]
    state = load_file(run / "checkpoints" / "step-0000006" / "training_state.safetensors")
    assert float(state["count"]) == 5
    assert float(state["loss_scale"]) == FIRST_SCALE / 2
    assert float(state["good_updates"]) == 2


def test_every_line_of_the_log_is_json(tiny_recipe, tiny_shards, tmp_path, monkeypatch):
    """Infinity and NaN are Python's own."""
    spoil_loss(monkeypatch, from_call=3, gradient=float("inf"), times=1)
    run = train(with_train(tiny_recipe, precision="float16", tokens=3 * 8 * 32), tiny_shards, tmp_path / "run")
    for line in (run / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


# --- a device that is ahead of the log ---


@pytest.fixture
def ahead(monkeypatch) -> None:
    """Let a run fetch outcomes as on a GPU: only when they are awaited, or many have gathered."""
    real = loop._Run.__init__

    def init(self, *args) -> None:
        real(self, *args)
        self.device = torch.device("meta")

    monkeypatch.setattr(loop._Run, "__init__", init)


def test_a_log_that_lags_behind_says_the_same(ahead, uninterrupted, tiny_recipe, tiny_shards, tmp_path):
    run = train(tiny_recipe, tiny_shards, tmp_path / "run")
    assert losses(run) == losses(uninterrupted)
    kinds = [
        [(r["kind"], r.get("step")) for r in map(json.loads, (one / "log.jsonl").read_text().splitlines())]
        for one in (run, uninterrupted)
    ]
    without_start = [[entry for entry in found if entry[0] not in ("start", "finished")] for found in kinds]
    assert without_start[0] == without_start[1]
    assert weights_sha256(run, 13)["model.safetensors"] == weights_sha256(uninterrupted, 13)["model.safetensors"]


@pytest.mark.parametrize("fetch_every", [1, 2, 5, 16])
def test_outcomes_are_fetched_in_groups(
    ahead, uninterrupted, tiny_recipe, tiny_shards, tmp_path, monkeypatch, fetch_every
):
    groups, real = [], step_module.Step.outcomes

    def outcomes(self):
        found = real(self)
        groups.append(len(found))
        return found

    monkeypatch.setattr(step_module.Step, "outcomes", outcomes)
    monkeypatch.setattr(loop, "FETCH_EVERY", fetch_every)
    run = train(with_train(tiny_recipe, eval_every=100, save_every=100), tiny_shards, tmp_path / "run")
    assert losses(run) == losses(uninterrupted)
    assert max(groups) == min(fetch_every, 13)
    assert sum(groups) == 13


def test_a_run_that_is_ahead_stops_at_the_right_step_with_the_right_weights(
    ahead, tiny_recipe, tiny_shards, tmp_path, monkeypatch, made_models
):
    recipe = with_train(tiny_recipe, precision="float32", eval_every=100, save_every=100)
    first = train(with_train(recipe, save_every=5), tiny_shards, tmp_path / "whole")
    kept = first / "checkpoints" / "step-0000010" / "model.safetensors"
    spoil_loss(monkeypatch, from_call=3 * 10, loss=float("nan"))
    with pytest.raises(UserError, match="at step 11 the loss is nan"):
        train(recipe, tiny_shards, tmp_path / "run")
    ended = to_hugging_face(recipe.model, made_models[1].state_dict())
    assert all(torch.equal(tensor, ended[name]) for name, tensor in load_file(kept).items())
    assert [r["step"] for r in records(tmp_path / "run", "train")] == list(range(1, 11))
    assert not (tmp_path / "run" / "latest.json").exists(), "nothing was saved that came after"


# --- what does not fit together ---


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
