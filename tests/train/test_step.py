"""One update: the same whatever the micro-batches, nothing touched by what is no number, and a state that is whole."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stentor.config import Recipe
from stentor.model.init import initialize
from stentor.model.llama import Llama
from stentor.model.ops import IGNORED_LABEL
from stentor.train import step as module
from stentor.train.average import WeightAverage
from stentor.train.build import make_model, make_step
from stentor.train.precision import FIRST_SCALE
from stentor.train.schedule import Rates
from stentor.train.step import WINDOW, Step

EOS = 0
RATES = Rates(1.0, 0.9)
ALL = {
    "optimizer": "muon",
    "average_decay": 0.9,
    "initializer": "scaled",
    "fake_quantize": "int8",
    "precision": "float16",
}
KINDS = {"adamw": {}, "muon": {"optimizer": "muon"}, "all": ALL, "norms stay": {**ALL, "learns_norms": False}}
each_kind = pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS.keys())


@dataclasses.dataclass
class Made:
    """A step with the parts that it changes."""

    model: Llama
    average: WeightAverage | None
    step: Step

    def run(self, seed: int, *, num_sequences: int = 8) -> None:
        ids_BT = batch(self.model.config.vocab_size, num_sequences, seed)
        self.step.run(ids_BT, ids_BT, RATES)


def batch(vocab_size: int, num_sequences: int = 8, seed: int = 0) -> Tensor:
    return torch.randint(1, vocab_size, (num_sequences, 32), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def make(tiny_recipe):
    """Return a function that makes a step of a qwen3 model in float32, unless told otherwise."""

    def made(**changes) -> Made:
        train = dataclasses.replace(tiny_recipe.train, **{"precision": "float32", **changes})
        model = dataclasses.replace(tiny_recipe.model, carrier="qwen3", num_key_value_heads=1)
        recipe = Recipe(name="step", tokenizer=tiny_recipe.tokenizer, model=model, train=train)
        network = make_model(recipe, torch.device("cpu"))
        initialize(network, seed=0, initializer=train.initializer)
        average = WeightAverage(network, train.average_decay) if train.average_decay else None
        return Made(network, average, make_step(network, average, recipe, eos_token_id=EOS))

    return made


def weights_of(model: Llama) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def spoil(monkeypatch, *, calls: set[int], loss: float = 1.0, gradient: float = 1.0) -> None:
    """Multiply the loss, or only its gradient, of some micro-batches (counted from 0)."""
    real, count = module.shifted_loss, -1

    def spoiled(*args, **kwargs):
        nonlocal count
        count += 1
        nats, num_predicted = real(*args, **kwargs)
        if count in calls:
            nats = nats * loss
            nats.register_hook(lambda grad: grad * gradient)
        return nats, num_predicted

    monkeypatch.setattr(module, "shifted_loss", spoiled)


# --- the gradient ---


def plain_gradients(model: Llama, ids_BT: Tensor) -> tuple[float, dict[str, Tensor]]:
    """Return the mean loss of a batch and its gradients, from the logits of one pass."""
    model.zero_grad()
    logits_BTV = model(ids_BT)[:, :-1]
    loss = functional.cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten(), ignore_index=IGNORED_LABEL)
    loss.backward()
    return float(loss.detach()), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 7, 8, 20])
def test_micro_batches_of_any_size_give_the_gradient_of_one_pass(make, micro_batch_size):
    made = make(micro_batch_size=micro_batch_size)
    loss, expected = plain_gradients(made.model, batch(384))
    made.run(0)
    (outcome,) = made.step.outcomes()
    assert outcome.loss_nats == pytest.approx(loss, rel=1e-6)
    norm = math.sqrt(sum(float(grad.double().square().sum()) for grad in expected.values()))
    assert outcome.grad_norm == pytest.approx(norm, rel=1e-5)
    for name, grad in expected.items():  # of which AdamW's first moment is a tenth, after one update
        found = made.step.state()[f"exp_avg.{name}"] / 0.1 * max(1.0, norm)
        torch.testing.assert_close(found, grad, atol=2e-6, rtol=1e-4, msg=lambda said, n=name: f"{n}: {said}")


def test_micro_batches_weigh_by_their_predicted_tokens(make):
    """A micro-batch with fewer labels counts less: the mean is over the tokens of the step."""
    made = make(micro_batch_size=4)
    ids_BT, labels_BT = batch(384), batch(384)
    labels_BT[5:] = IGNORED_LABEL
    labels_BT[4, 7:] = IGNORED_LABEL
    with torch.no_grad():
        nats_BT = functional.cross_entropy(
            made.model(ids_BT)[:, :-1].transpose(1, 2), labels_BT[:, 1:], reduction="none"
        )
    made.step.run(ids_BT, labels_BT, RATES)
    assert made.step.outcomes()[0].loss_nats == pytest.approx(float(nats_BT.sum() / (4 * 31 + 6)), rel=1e-5)


def test_the_last_step_may_be_smaller(make):
    made = make()
    loss, _ = plain_gradients(made.model, batch(384, 5))
    made.run(0, num_sequences=5)
    assert made.step.outcomes()[0].loss_nats == pytest.approx(loss, rel=1e-6)


def test_masked_documents_are_as_if_alone(make):
    """A sequence of two documents costs what both cost on their own, but for the token that opens the second."""
    made = make(mask_across_documents=True)
    ids_BT = batch(384, 8)
    ids_BT[:, 12] = EOS
    labels_BT = ids_BT.clone()
    labels_BT[:, 12] = IGNORED_LABEL
    with torch.no_grad():
        alone = [
            functional.cross_entropy(made.model(piece)[:, :-1].transpose(1, 2), piece[:, 1:], reduction="sum")
            for piece in (ids_BT[:, :12], ids_BT[:, 12:])
        ]
    made.step.run(ids_BT, labels_BT, RATES)
    expected = float(alone[0] + alone[1]) / (8 * 30)
    assert made.step.outcomes()[0].loss_nats == pytest.approx(expected, rel=1e-5)


def test_the_mean_follows_the_weights(make):
    made = make(average_decay=0.9)
    before = weights_of(made.model)
    made.run(0)
    assert made.average
    for name, weight in weights_of(made.model).items():
        torch.testing.assert_close(made.average.means[name], before[name].lerp(weight, 9 / 11), atol=1e-7, rtol=1e-6)


# --- what came of it ---


def test_outcomes_come_once_and_in_order(make):
    made, alone = make(), make()
    assert made.step.outcomes() == []
    for seed in range(3):
        made.run(seed)
    first = made.step.outcomes()
    made.run(3)
    (fourth,) = made.step.outcomes()
    one_by_one = []
    for seed in range(4):
        alone.run(seed)
        one_by_one += alone.step.outcomes()
    assert [*first, fourth] == one_by_one
    assert len({outcome.loss_nats for outcome in one_by_one}) == 4
    assert all(outcome.went_on for outcome in one_by_one)
    assert made.step.outcomes() == []


def test_a_whole_window_may_be_asked_for_before_they_are_fetched(make):
    made = make(tokens=32, global_batch_tokens=32)
    for seed in range(WINDOW):
        made.run(seed, num_sequences=1)
    assert len(made.step.outcomes()) == WINDOW


# --- no numbers ---


@each_kind
def test_nan_in_the_loss_reaches_nothing_and_nothing_comes_after(make, monkeypatch, changes):
    """Bit for bit, weights, moments and mean are those of the last good update, however many are asked for."""
    changes = {**changes, "precision": "float32", "micro_batch_size": 8}
    made, good = make(**changes), make(**changes)
    for one in (made, good):
        one.run(0)
    spoil(monkeypatch, calls={0}, loss=float("nan"))
    for seed in (1, 2, 3):
        made.run(seed)
    assert [outcome.went_on for outcome in made.step.outcomes()] == [True, False, False, False]
    assert_equal(weights_of(made.model), weights_of(good.model))
    assert_equal(made.step.state(), good.step.state())


@pytest.mark.parametrize("micro_batch", [0, 1, 2])
def test_an_overflow_in_one_micro_batch_of_a_gradient_stops_float32(make, monkeypatch, micro_batch):
    made = make(micro_batch_size=3)
    before = weights_of(made.model)
    spoil(monkeypatch, calls={micro_batch}, gradient=float("inf"))
    made.run(0)
    (outcome,) = made.step.outcomes()
    assert math.isfinite(outcome.loss_nats)
    assert not math.isfinite(outcome.grad_norm)
    assert not outcome.went_on
    assert_equal(weights_of(made.model), before)


@pytest.mark.parametrize("changes", [{}, ALL], ids=["adamw", "all"])
def test_an_overflow_in_float16_skips_one_update_and_halves_the_scale(make, monkeypatch, changes):
    changes = {**changes, "precision": "float16", "micro_batch_size": 8}
    made, undisturbed = make(**changes), make(**changes)
    for one in (made, undisturbed):
        one.run(0)
        assert one.step.outcomes()[0].went_on
    assert float(made.step.loss_scale.scale) == FIRST_SCALE
    before, state = weights_of(made.model), copies(made.step.state())
    spoil(monkeypatch, calls={0}, gradient=float("inf"))
    made.run(1)
    (outcome,) = made.step.outcomes()
    assert outcome.went_on
    assert not math.isfinite(outcome.grad_norm)
    assert_equal(weights_of(made.model), before)
    expected = {**state, "loss_scale": state["loss_scale"] / 2, "good_updates": torch.tensor(0.0)}
    assert_equal(made.step.state(), expected)
    for one in (made, undisturbed):
        one.run(2)
    assert made.step.outcomes()[0].went_on
    for name, weight in weights_of(made.model).items():
        torch.testing.assert_close(weight, weights_of(undisturbed.model)[name], atol=2e-3, rtol=0)


def test_float16_stops_when_the_scale_has_nothing_left_to_give(make, monkeypatch):
    made = make(precision="float16", micro_batch_size=8, tokens=32, global_batch_tokens=32)
    before = weights_of(made.model)
    spoil(monkeypatch, calls=set(range(100)), gradient=float("nan"))
    for seed in range(18):
        made.run(seed, num_sequences=1)
    assert [outcome.went_on for outcome in made.step.outcomes()] == [True] * 16 + [False] * 2
    assert_equal(weights_of(made.model), before)


def test_the_scale_cancels(make):
    """Gradients in float16 are the same at any scale that neither overflows nor vanishes; so is their norm."""
    norms, moments = [], []
    for scale in (1024.0, 65536.0):
        made = make(precision="float16")
        made.step.loss_scale.scale.fill_(scale)
        made.run(0)
        norms.append(made.step.outcomes()[0].grad_norm)
        moments.append(made.step.state()["exp_avg.down_LDF"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-2)
    assert (moments[0] - moments[1]).norm() < 0.05 * moments[1].norm()


# --- its state ---


def reachable(thing: object, path: str = "", seen: set[int] | None = None) -> dict[str, Tensor]:
    """Return every tensor that can be got to from an object, by the path to it."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return {}
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        return {path: thing}
    found: dict[str, Tensor] = {}
    if isinstance(thing, dict):
        for key, value in thing.items():
            found |= reachable(value, f"{path}[{key if isinstance(key, str) else id(key)}]", seen)
            found |= reachable(key, f"{path}.key", seen) if not isinstance(key, str) else {}
    elif isinstance(thing, (list, tuple)):
        for index, value in enumerate(thing):
            found |= reachable(value, f"{path}[{index}]", seen)
    elif hasattr(thing, "__dict__") and type(thing).__module__.startswith(("stentor.", "torch.optim")):
        for name, value in vars(thing).items():
            found |= reachable(value, f"{path}.{name}", seen)
    return found


SCRATCH = ("_rates", "_outcomes", "_cursor", ".grad_scale", ".found_inf", "[lr]", "_inputs_BT", "_labels_BT")
"""Written anew by every update before it is read, or fetched by the loop."""


@each_kind
def test_every_tensor_that_updates_change_is_a_weight_or_in_the_state(make, changes):
    """A new kind of state must be saved too, or a resumed run would differ."""
    made = make(**changes)
    made.run(0)
    before = copies(reachable(made.step))
    assert len(before) > 15
    made.run(1)
    after = reachable(made.step)
    moved = {path: t for path, t in after.items() if path not in before or not torch.equal(t, before[path])}
    known = {t.data_ptr() for t in (*made.model.parameters(), *made.step.state().values())}
    counters = {float(made.step.state()["count"])}
    unknown = [
        path
        for path, tensor in moved.items()
        if tensor.data_ptr() not in known
        and not any(scratch in path for scratch in SCRATCH)
        and not (path.endswith("[step]") and {float(tensor)} == counters)  # AdamW's own copy of the count
    ]
    assert unknown == []
    names = {path for path, tensor in moved.items() if tensor.data_ptr() in known}
    assert len(names) >= sum(p.requires_grad for p in made.model.parameters())


@each_kind
def test_a_loaded_state_and_the_weights_are_all_that_updates_depend_on(make, changes):
    made, again = make(**changes), make(**changes)
    for seed in range(3):
        made.run(seed)
    with torch.no_grad():
        for name, parameter in again.model.named_parameters():
            parameter.copy_(weights_of(made.model)[name])
    again.step.load_state(copies(made.step.state()))
    assert_equal(made.step.state(), again.step.state())
    for one in (made, again):
        one.step.outcomes()
        for seed in (7, 8):
            one.run(seed)
    assert made.step.outcomes() == again.step.outcomes()
    assert_equal(weights_of(made.model), weights_of(again.model))
    assert_equal(made.step.state(), again.step.state())


def test_names_in_the_state_are_those_of_our_parameters(make):
    made = make(**ALL)
    names = weights_of(made.model).keys()
    for name in made.step.state():
        kind, _, parameter = name.partition(".")
        assert parameter in names or kind in ("count", "loss_scale", "good_updates"), name


def test_closing_gives_a_recorded_graph_back_once(make):
    class Graph:
        resets = 0

        def reset(self) -> None:
            self.resets += 1

    step, graph = make().step, Graph()
    step.close()  # nothing was recorded
    step._graph = graph
    step.close()
    step.close()
    assert graph.resets == 1
