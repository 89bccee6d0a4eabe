"""The training loop: what happens in a run, in order. The detail of each step is one call away."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import torch

from stentor.artifacts import locked_directory, require_free_space, write_file
from stentor.config import Recipe
from stentor.errors import InterruptedRunError, UsageError, UserError
from stentor.model.device import autocast_dtype, pick_device
from stentor.model.folder import require_matching
from stentor.model.init import initialize
from stentor.model.llama import Llama, document_ids
from stentor.model.loss import shifted_loss
from stentor.model.measure import Evaluation, measure
from stentor.shards.build import Shards
from stentor.shards.pack import require_tokens
from stentor.train.batches import Batches
from stentor.train.checkpoint import TrainingState, load_latest, restore, save_checkpoint, settle
from stentor.train.log import Observer, TrainingLog
from stentor.train.optimizer import make_optimizer, set_learning_rate
from stentor.train.plan import require_memory
from stentor.train.schedule import learning_rate
from stentor.train.stop import stop_requests

RECIPE_NAME = "recipe.toml"
RESUME_CHOICES = ("auto", "never")


def train(
    recipe: Recipe, shards: Shards, run_dir: Path, *, resume: str = "auto", observer: Observer | None = None
) -> Path:
    """Train a model, or go on where a stopped or killed run left off.

    Args:
        recipe: everything that decides the result.
        shards: packed training and held-out tokens, and their tokenizer.
        run_dir: receives recipe.toml, log.jsonl and checkpoints/.
        resume: `auto` continues a run that exists; `never` refuses one.
        observer: shown every record of the log.

    Returns:
        The run folder, which stands for its best checkpoint.

    Raises:
        UserError: shards, recipe and run do not belong together, or the loss stopped being a number.
        InterruptedRunError: a stop was asked for; the run is saved.
    """
    _check(recipe, shards, run_dir, resume)
    with locked_directory(run_dir), stop_requests() as stop_requested:
        run = _Run(recipe, shards, run_dir, observer)
        while run.state.step < run.batches.budget.num_steps:
            run.update()
            if run.is_due(recipe.train.eval_every):
                run.evaluate()
            if run.is_due(recipe.train.save_every) or run.just_improved or stop_requested():
                run.save()
            if stop_requested() and not run.is_finished:
                raise InterruptedRunError(
                    f"stopped at step {run.state.step} of {run.batches.budget.num_steps}, saved in {run_dir}",
                    fix="run the same command again to go on",
                )
        run.log.record("finished", step=run.state.step, best_step=run.state.best_step)
    return run_dir


class _Run:
    """The parts of a run and its place in the budget."""

    def __init__(self, recipe: Recipe, shards: Shards, run_dir: Path, observer: Observer | None) -> None:
        self.recipe, self.shards, self.run_dir = recipe, shards, run_dir
        self.log = TrainingLog(run_dir, observer)
        self.device = pick_device()
        self.autocast_dtype = autocast_dtype(recipe.train.precision, self.device)
        self.batches = Batches(shards.train, recipe)
        self.model = Llama(recipe.model).to(self.device)
        self.optimizer = make_optimizer(self.model, recipe.train)
        self.state = self._start_or_resume()
        self.log.record(
            "start",
            step=self.state.step,
            num_steps=self.batches.budget.num_steps,
            num_epochs=self.batches.num_epochs,
            num_parameters=recipe.model.num_parameters,
            device=str(self.device),
            precision=str(self.autocast_dtype or torch.float32).removeprefix("torch."),
            num_threads=torch.get_num_threads(),
            torch=torch.__version__,
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

    def update(self) -> None:
        """Make one optimizer update and log it."""
        started = time.perf_counter()
        lr = learning_rate(self.state.step, self.batches.budget.num_steps, self.recipe.train)
        loss_nats, num_tokens = self._accumulate_gradients()
        grad_norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.train.max_grad_norm))
        self._refuse_non_finite(loss_nats, grad_norm)
        set_learning_rate(self.optimizer, lr)
        self.optimizer.step()
        self.optimizer.zero_grad()
        step, tokens_seen = self.state.step + 1, self.state.tokens_seen + num_tokens
        self.state = replace(self.state, step=step, tokens_seen=tokens_seen)
        seconds = time.perf_counter() - started
        self.log.record(
            "train",
            step=step,
            tokens_seen=tokens_seen,
            loss_nats=loss_nats,
            lr=lr,
            grad_norm=grad_norm,
            seconds=round(seconds, 6),
            tokens_per_second=round(num_tokens / seconds, 1),
        )

    def evaluate(self) -> None:
        """Score the whole held-out shard and remember whether it is the best yet."""
        result = self._measure()
        self.log.record("evaluation", step=self.state.step, tokens_seen=self.state.tokens_seen, **result.to_dict())
        if self.state.improved_by(result.loss_nats):
            self.state = replace(self.state, best_step=self.state.step, best_loss_nats=result.loss_nats)

    def save(self) -> None:
        """Write a checkpoint."""
        save_checkpoint(self.run_dir, self.model, self.optimizer, self.state, self.shards.tokenizer)
        self.log.record("saved", step=self.state.step)

    def _start_or_resume(self) -> TrainingState:
        data_sha256 = self.shards.train.header.payload_sha256
        found = load_latest(self.run_dir, on_note=self.log.note)
        if found is None:
            initialize(self.model, seed=self.recipe.train.seed, initializer=self.recipe.train.initializer)
            write_file(self.run_dir / RECIPE_NAME, self.recipe.to_toml())
            self.log.rewind(0)
            return TrainingState(data_sha256=data_sha256)
        folder, state = found
        if state.data_sha256 != data_sha256:
            raise UserError(
                f"{self.run_dir} was trained on other data than {self.shards.train.path}",
                fix="make the same data again to go on, or start anew in another --run folder",
            )
        restore(folder, self.model, self.optimizer)
        settle(self.run_dir, state)
        self.log.rewind(state.step)
        return state

    def _accumulate_gradients(self) -> tuple[float, int]:
        """Run the micro-batches of one step; returns the mean loss in nats and the tokens processed."""
        micro_batches = list(self.batches.micro_batches(self.state.step))
        num_predicted = sum(int((labels_BT[:, 1:] >= 0).sum()) for _, labels_BT in micro_batches)
        step_nats = 0.0
        for inputs_BT, labels_BT in micro_batches:
            input_ids_BT = inputs_BT.to(self.device)
            masked = self.recipe.train.mask_across_documents
            documents = document_ids(input_ids_BT, self.shards.tokenizer.eos_token_id) if masked else None
            with torch.autocast(self.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
                total_nats, _ = shifted_loss(
                    self.model, input_ids_BT, labels_BT.to(self.device), document_ids_BT=documents
                )
            (total_nats / num_predicted).backward()
            step_nats += float(total_nats.detach())
        return step_nats / num_predicted, sum(inputs_BT.numel() for inputs_BT, _ in micro_batches)

    def _refuse_non_finite(self, loss_nats: float, grad_norm: float) -> None:
        """Stop before a NaN reaches the weights or the moments."""
        if not (math.isfinite(loss_nats) and math.isfinite(grad_norm)):
            raise UserError(
                f"at step {self.state.step + 1} the loss is {loss_nats} and its gradient norm {grad_norm}; the run "
                f"stopped before they could reach the weights, and what it saved before is intact",
                fix="start another run with a lower train.lr or more train.warmup_steps",
            )

    def _measure(self) -> Evaluation:
        held_out = self.shards.validation
        return measure(
            self.model,
            held_out.token_ids,
            num_bytes=held_out.num_text_bytes,
            eos_token_id=held_out.eos_token_id,
            losses=self.shards.losses["validation"],
            batch_size=self.recipe.train.micro_batch_size,
            autocast_dtype=self.autocast_dtype,
        )


def _check(recipe: Recipe, shards: Shards, run_dir: Path, resume: str) -> None:
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
    require_memory(recipe, pick_device())
    weights_bytes = 4 * recipe.model.num_parameters
    require_free_space(run_dir, 4 * 3 * weights_bytes, purpose="a run with its checkpoints")


def _refuse_other_recipe(recipe: Recipe, run_dir: Path) -> None:
    try:
        before = Recipe.load(run_dir / RECIPE_NAME)
    except UserError:
        if (run_dir / RECIPE_NAME).exists():
            raise
        return
    if before == recipe:
        return
    old, new = before.to_toml().splitlines(), recipe.to_toml().splitlines()
    changed = next(f"it says {a!r}, now {b!r}" for a, b in zip(old, new, strict=True) if a != b)
    raise UserError(
        f"{run_dir} was started with another recipe: {changed}",
        fix="use the same settings to go on, or another --run folder to start anew",
    )
