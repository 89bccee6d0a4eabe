"""The training loop: what happens in a run, in order. The detail of each step is one call away."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from stentor.artifacts import locked_directory, require_free_space, write_file
from stentor.config import Recipe
from stentor.errors import InterruptedRunError, UsageError, UserError
from stentor.model.device import device_name, pick_device
from stentor.model.flops import peak_flops, training_flops_per_token
from stentor.model.folder import require_matching
from stentor.model.measure import Evaluation, summed_nats
from stentor.model.scorer import TorchScorer
from stentor.shards.build import Shards
from stentor.shards.pack import require_tokens
from stentor.train.average import WeightAverage
from stentor.train.batches import Batches
from stentor.train.build import make_model, make_step, set_initial_weights
from stentor.train.checkpoint import TrainingState, load_latest, restore, save_checkpoint, settle
from stentor.train.determinism import deterministic_kernels
from stentor.train.diagnose import first_non_finite
from stentor.train.distributed import ALONE, World
from stentor.train.expectations import Expectations
from stentor.train.log import NoLog, Observer, TrainingLog
from stentor.train.plan import disk_bytes, explained_memory, require_memory
from stentor.train.scales import measure_scales
from stentor.train.schedule import rates
from stentor.train.step import Outcome
from stentor.train.stop import stop_requests
from stentor.train.teacher import load_teacher

RECIPE_NAME = "recipe.toml"
RESUME_CHOICES = ("auto", "never")
FETCH_EVERY = 16
"""Updates that a GPU may be ahead of the log."""


def train(
    recipe: Recipe,
    shards: Shards,
    run_dir: Path,
    *,
    resume: str = "auto",
    observer: Observer | None = None,
    world: World = ALONE,
) -> Path:
    """Train a model, or go on where a stopped or killed run left off.

    Args:
        recipe: everything that decides the result.
        shards: packed training and held-out tokens, and their tokenizer.
        run_dir: receives recipe.toml, log.jsonl and checkpoints/.
        resume: `auto` continues a run that exists; `never` refuses one.
        observer: shown every record of the log, in the first process.
        world: the processes that train together; the first one writes, and all read the same run folder.

    Returns:
        The run folder, which stands for its best checkpoint.

    Raises:
        UserError: shards, recipe and run do not belong together, or the loss stopped being a number.
        InterruptedRunError: a stop was asked for; the run is saved.
    """
    _check(recipe, shards, run_dir, resume, world)
    world.barrier()  # nothing is written before all have looked
    lock = locked_directory(run_dir) if world.is_main else nullcontext()
    kernels = deterministic_kernels() if recipe.train.deterministic else nullcontext()
    with lock, stop_requests() as stop_requested, kernels, explained_memory(recipe), ExitStack() as ending:
        run = _Run(recipe, shards, run_dir, observer, world)
        ending.callback(run.step.close)
        run.ask_teachers(stop_requested)
        while run.state.step < run.batches.budget.num_steps:
            run.update()
            if run.is_due(recipe.train.eval_every):
                run.evaluate()
            is_stopping = run.agrees_to_stop(stop_requested())  # once: what comes after the save is for the next step
            if run.is_due(recipe.train.save_every) or run.just_improved or is_stopping:
                run.save()
            if is_stopping and not run.is_finished:
                raise InterruptedRunError(
                    f"stopped at step {run.state.step} of {run.batches.budget.num_steps}, saved in {run_dir}",
                    fix="run the same command again to go on",
                )
        run.finish()
    return run_dir


class _Run:
    """The parts of a run and its place in the budget."""

    def __init__(self, recipe: Recipe, shards: Shards, run_dir: Path, observer: Observer | None, world: World) -> None:
        self.recipe, self.shards, self.run_dir, self.world = recipe, shards, run_dir, world
        self.log = TrainingLog(run_dir, observer) if world.is_main else NoLog()
        self.device = pick_device()
        self.batches = Batches(shards.train, recipe)
        self.model = make_model(recipe, self.device)
        self.teacher = load_teacher(recipe, shards.tokenizer, self.device)
        set_initial_weights(self.model, recipe.train, self.teacher)
        self.average = WeightAverage(self.model, recipe.train.average_decay) if recipe.train.average_decay else None
        eos_token_id = shards.tokenizer.eos_token_id
        self.step = make_step(
            self.model, self.average, recipe, eos_token_id=eos_token_id, teacher=self.teacher, world=world
        )
        self.state = self._start_or_resume()
        self.expectations = self._expectations()
        self._asked: list[_Asked] = []
        self._fetched_at = time.perf_counter()
        self._record_start()

    def _record_start(self) -> None:
        """Log where the run stands, what it costs and what it is measured on."""
        precision = str(self.model.numerics.compute_dtype).removeprefix("torch.")
        peak = peak_flops(device_name(self.device), precision)
        self.log.record(
            "start",
            step=self.state.step,
            num_steps=self.batches.budget.num_steps,
            num_epochs=self.batches.num_epochs,
            num_parameters=self.recipe.model.num_parameters,
            device=str(self.device),
            device_name=device_name(self.device),
            precision=precision,
            num_threads=torch.get_num_threads(),
            num_processes=self.world.size,
            torch=torch.__version__,
            num_teacher_parameters=self.teacher.num_parameters if self.teacher else 0,
            flops_per_token=training_flops_per_token(self.recipe.model),
            peak_flops=None if peak is None else peak * self.world.size,
            held_out_sha256=self.shards.validation.header.payload_sha256,
            tokenizer_sha256=self.shards.tokenizer.sha256,
        )

    @property
    def is_finished(self) -> bool:
        """Whether the whole budget is spent."""
        return self.state.step == self.batches.budget.num_steps

    @property
    def just_improved(self) -> bool:
        """Whether the evaluation of this very step is the best so far."""
        return self.state.best_step == self.state.step

    def is_due(self, every: int) -> bool:
        """Whether something done every so many steps, and at the end, is due."""
        return self.state.step % every == 0 or self.is_finished

    def agrees_to_stop(self, is_asked: bool) -> bool:
        """Whether any process was asked to stop; several agree on it when none is ahead of the log."""
        if self.world.size > 1 and self._asked:
            return False
        return self.world.any(is_asked)

    def ask_teachers(self, stop_requested: Callable[[], bool]) -> None:
        """Let the teachers say what they expect of the whole text, where that is kept.

        Raises:
            InterruptedRunError: a stop was asked for; what they said so far is kept.
        """
        if self.expectations is None or self.is_finished:
            return
        for num_files in self.expectations.ask(eos_token_id=self.shards.tokenizer.eos_token_id, world=self.world):
            self.log.record("asked", step=self.state.step, files=num_files, of=self.expectations.num_files)
            if stop_requested():
                raise InterruptedRunError(
                    f"stopped while teachers were asked, {num_files} of {self.expectations.num_files} parts are kept",
                    fix="run the same command again to go on",
                )
        self._fetched_at = time.perf_counter()

    def finish(self) -> None:
        """Say that the budget is spent, and give back what no other run needs."""
        self.log.record("finished", step=self.state.step, best_step=self.state.best_step)
        self.world.barrier()  # what is removed, another may be reading
        if self.expectations and self.world.is_main:
            self.expectations.remove()

    def update(self) -> None:
        """Ask for one update; what came of it is logged as soon as it is known."""
        chosen = rates(self.state.step, self.batches.budget.num_steps, self.recipe.train)
        inputs_BT, labels_BT = self.batches.of_step(self.state.step)
        self.step.run(inputs_BT, labels_BT, chosen, self._expected(self.state.step))
        step, tokens_seen = self.state.step + 1, self.state.tokens_seen + inputs_BT.numel()
        self._asked.append(_Asked(step, tokens_seen, inputs_BT.numel(), chosen.factor * self.recipe.train.lr))
        self.state = replace(self.state, step=step, tokens_seen=tokens_seen)
        is_awaited = any(self.is_due(every) for every in (self.recipe.train.eval_every, self.recipe.train.save_every))
        if self.device.type == "cpu" or is_awaited or len(self._asked) == FETCH_EVERY:
            self.fetch()

    def fetch(self) -> None:
        """Wait for the updates that were asked for, and log them.

        Raises:
            UserError: loss or gradient stopped being numbers; no weight has seen that.
        """
        outcomes = self.step.outcomes()
        seconds = (time.perf_counter() - self._fetched_at) / max(1, len(outcomes))
        for asked, outcome in zip(self._asked, outcomes, strict=True):
            if not outcome.went_on:
                self._refuse_non_finite(asked, outcome)
            self.log.record(
                "train",
                step=asked.step,
                tokens_seen=asked.tokens_seen,
                loss_nats=outcome.loss_nats,
                lr=asked.lr,
                grad_norm=outcome.grad_norm if math.isfinite(outcome.grad_norm) else None,  # JSON has no infinity
                seconds=round(seconds, 6),
                tokens_per_second=round(asked.num_tokens / seconds, 1),
            )
        self._asked, self._fetched_at = [], time.perf_counter()

    def evaluate(self) -> None:
        """Score the whole held-out shard and remember whether it is the best yet."""
        with self.average.in_place() if self.average else nullcontext():
            result = self._measure()
            scales = measure_scales(
                self.model, self.shards.validation, micro_batch_size=self.recipe.train.micro_batch_size
            )
        self.log.record("evaluation", step=self.state.step, tokens_seen=self.state.tokens_seen, **result.to_dict())
        self.log.record("scales", step=self.state.step, tokens_seen=self.state.tokens_seen, **scales)
        if self.state.improved_by(result.loss_nats):
            self.state = replace(self.state, best_step=self.state.step, best_loss_nats=result.loss_nats)
        self._fetched_at = time.perf_counter()

    def save(self) -> None:
        """Write a checkpoint; all processes wait for it."""
        self.fetch()
        self.world.require_same_weights(self.model)
        if self.world.is_main:
            save_checkpoint(self.run_dir, self.model, self.step, self.average, self.state, self.shards.tokenizer)
        self.log.record("saved", step=self.state.step)
        self.world.barrier()
        self._fetched_at = time.perf_counter()

    def _expectations(self) -> Expectations | None:
        if self.teacher is None or not self.recipe.train.expectations_kept:
            return None
        data_sha256 = self.shards.train.header.payload_sha256
        return Expectations(self.run_dir, self.recipe, self.teacher, self.batches.sequences, data_sha256=data_sha256)

    def _expected(self, step: int) -> Tensor | None:
        """Return what teachers said of this process's share of a step, where that was kept."""
        if self.expectations is None:
            return None
        indices_B = self.batches.indices(step)
        return self.expectations.of(indices_B[self.world.rows(len(indices_B))])

    def _start_or_resume(self) -> TrainingState:
        data_sha256 = self.shards.train.header.payload_sha256
        teacher_sha256 = self.teacher.sha256 if self.teacher else ""
        found = load_latest(self.run_dir, on_note=self.log.note)
        self._require_same(data_sha256, teacher_sha256, found[1].step if found else 0)
        self._keep_recipe()
        if found is None:
            self.log.rewind(0)
            return TrainingState(data_sha256=data_sha256, teacher_sha256=teacher_sha256)
        folder, state = found
        if state.data_sha256 != data_sha256:
            raise UserError(
                f"{self.run_dir} was trained on other data than {self.shards.train.path}",
                fix="make the same data again to go on, or start anew in another --run folder",
            )
        if state.teacher_sha256 != teacher_sha256:
            raise UserError(
                f"{self.run_dir} learned from other weights than those of {', '.join(self.recipe.train.teachers)}",
                fix="put those back to go on, or start anew in another --run folder",
            )
        restore(folder, self.model, self.step, self.average)
        self.world.barrier()  # what `settle` removes, another may be reading
        if self.world.is_main:
            settle(self.run_dir, state)
        self.log.rewind(state.step)
        return state

    def _keep_recipe(self) -> None:
        """Write the recipe beside the run; it can differ from the one there in its micro-batch alone."""
        before = _recipe_of(self.run_dir)
        if before == self.recipe or not self.world.is_main:
            return
        if before is not None:
            sizes = self.recipe.train.micro_batch_size, before.train.micro_batch_size
            self.log.note("going on with micro-batches of {} sequences, not {}: sums round otherwise".format(*sizes))
        write_file(self.run_dir / RECIPE_NAME, self.recipe.to_toml())

    def _require_same(self, data_sha256: str, teacher_sha256: str, step: int) -> None:
        """Refuse processes that would train different models."""
        again = "start all of them with the same command"
        self.world.require_same(self.recipe.to_toml(), what="recipe", fix=again)
        self.world.require_same(data_sha256, what="training data", fix="copy the data folder to every machine")
        self.world.require_same(teacher_sha256, what="teacher", fix="copy its run folder to every machine")
        shared = f"let all machines see the same folder {self.run_dir}"
        self.world.require_same(str(step), what="checkpoint to go on from", fix=shared)

    def _refuse_non_finite(self, asked: _Asked, outcome: Outcome) -> NoReturn:
        """Say what stopped being a number; the weights are those of the last good update."""
        culprit = first_non_finite(
            self.model,
            *self.batches.of_step(asked.step - 1),
            micro_batch_size=self.recipe.train.micro_batch_size,
            document_separator=self.step.document_separator,
        )
        raise UserError(
            f"at step {asked.step} the loss is {outcome.loss_nats} and its gradient norm {outcome.grad_norm}"
            f"{f' ({culprit})' if culprit else ''}; the run stopped before they could reach the weights, and what it "
            f"saved before is intact",
            fix="start another run with a lower train.lr or more train.warmup_steps",
        )

    def _measure(self) -> Evaluation:
        held_out, batch_size = self.shards.validation, self.recipe.train.micro_batch_size
        ids, before = self.world.part(
            held_out.token_ids, held_out.eos_token_id, span=self.recipe.model.max_position_embeddings
        )
        nats = summed_nats(TorchScorer(self.model), ids, eos_token_id=before, batch_size=batch_size)
        return Evaluation.from_total(
            self.world.total(nats),
            num_tokens=len(held_out.token_ids),
            num_bytes=held_out.num_text_bytes,
            losses=self.shards.losses["validation"],
        )


class _Asked(NamedTuple):
    """An update that was asked for, and not yet heard of."""

    step: int
    tokens_seen: int
    num_tokens: int
    lr: float


def _check(recipe: Recipe, shards: Shards, run_dir: Path, resume: str, world: World) -> None:
    """Refuse what cannot work before anything is written."""
    if resume not in RESUME_CHOICES:
        raise UsageError(f"--resume {resume} is unknown", fix=f"use {' or '.join(RESUME_CHOICES)}")
    if resume == "never" and (run_dir / RECIPE_NAME).exists():
        raise UserError(
            f"the run {run_dir} already exists", fix="name another --run folder, or go on with --resume auto"
        )
    require_matching(shards.tokenizer, recipe.model, origin="the recipe")
    require_tokens(shards.train, recipe.model.max_position_embeddings)
    _refuse_other_recipe(recipe, run_dir)
    require_memory(recipe, pick_device(), world)
    require_free_space(run_dir, disk_bytes(recipe, shards.train.num_tokens), purpose="a run with all it keeps")


def _refuse_other_recipe(recipe: Recipe, run_dir: Path) -> None:
    before = _recipe_of(run_dir)
    if before is None or _with_micro_batch_of(recipe, before) == recipe:
        return
    old, new = before.to_toml().splitlines(), recipe.to_toml().splitlines()
    changed = next(f"it says {a!r}, now {b!r}" for a, b in zip(old, new, strict=True) if a != b)
    raise UserError(
        f"{run_dir} was started with another recipe: {changed}",
        fix="use the same settings to go on, or another --run folder to start anew",
    )


def _recipe_of(run_dir: Path) -> Recipe | None:
    """Return the recipe that a run was started with, or None where there is no run."""
    path = run_dir / RECIPE_NAME
    return Recipe.load(path) if path.exists() else None


def _with_micro_batch_of(recipe: Recipe, other: Recipe) -> Recipe:
    """Return another recipe with this one's micro-batch, which decides what a run takes and not what it learns."""
    return replace(other, train=replace(other.train, micro_batch_size=recipe.train.micro_batch_size))
