"""Live progress on stderr: a moving bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stentor.cli.output import duration, size, talk

PLAIN_EVERY_SECONDS = 10.0
_REFRESHES_PER_SECOND = 4


class Meter:
    """Shows how far a piece of work is. Use it through `meter`.

    Args:
        label: what is being done.
    """

    def __init__(self, label: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._label = label
        self._said_at = time.monotonic()
        self._console = Console(stderr=True, highlight=False, markup=False)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}", markup=False))
        self._bar = Progress(*columns, console=self._console, transient=True, refresh_per_second=_REFRESHES_PER_SECOND)
        self._task = self._bar.add_task(label, total=None, detail="")

    @property
    def is_live(self) -> bool:
        """Whether stderr is a terminal, where a bar can move."""
        return self._console.is_terminal

    def show(self, detail: str, *, share: float | None = None) -> None:
        """Show a state; without a terminal only now and then.

        Args:
            detail: in words.
            share: of the whole that is done, 0 to 1; None where the whole is not known.
        """
        if self.is_live:
            self._bar.start()  # not before there is something to show: terminals have room for one bar at a time
            self._bar.update(self._task, detail=detail, completed=share or 0.0, total=None if share is None else 1.0)
        elif time.monotonic() - self._said_at >= PLAIN_EVERY_SECONDS:
            self._said_at = time.monotonic()
            talk(f"{self._label}: {detail}")

    def clear(self) -> None:
        """Take the bar away until there is something to show again."""
        if self.is_live:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self.is_live:
            self._console.print(text, soft_wrap=True)
        else:
            talk(text)


@contextmanager
def meter(label: str) -> Iterator[Meter]:
    """Yield a meter; its bar is gone at the end, however the work ends."""
    shown = Meter(label)
    try:
        yield shown
    finally:
        shown.clear()


def show_documents(shown: Meter, num_documents: int, num_bytes: int) -> None:
    """Show documents read so far."""
    shown.show(f"{num_documents:,} documents, {size(num_bytes)}")


def show_share(shown: Meter, done: int, whole: int) -> None:
    """Show a share of a known whole."""
    share = done / max(1, whole)
    shown.show(f"{share:.0%}", share=share)


class TrainingDisplay:
    """Shows a training log's records as they are written.

    Args:
        shown: where to.
    """

    def __init__(self, shown: Meter) -> None:
        self._shown = shown
        self._num_steps = 0
        self._rate = 0.0
        self._utilisation_per_rate: float | None = None

    def __call__(self, record: dict[str, Any]) -> None:
        """Show one record of the log."""
        handler = getattr(self, f"_on_{record['kind']}", None)
        if handler:
            handler(record)

    def _on_start(self, record: dict[str, Any]) -> None:
        self._num_steps = record["num_steps"]
        if record["peak_flops"]:
            self._utilisation_per_rate = record["flops_per_token"] / record["peak_flops"]
        going_on = f", going on after step {record['step']:,}" if record["step"] else ""
        self._shown.say(
            f"training {record['num_parameters']:,} parameters for {record['num_steps']:,} steps "
            f"({record['num_epochs']:.2f} epochs) on {record['device']} in {record['precision']}{going_on}"
        )

    def _on_train(self, record: dict[str, Any]) -> None:
        rate = record["tokens_per_second"]
        self._rate = 0.9 * self._rate + 0.1 * rate if self._rate else rate
        tokens_per_step = record["tokens_seen"] / record["step"]
        seconds_left = (self._num_steps - record["step"]) * tokens_per_step / max(self._rate, 1e-9)
        utilisation = f", {self._rate * self._utilisation_per_rate:.1%} MFU" if self._utilisation_per_rate else ""
        self._shown.show(
            f"step {record['step']:,}/{self._num_steps:,}  loss {record['loss_nats']:.3f} nats/token  "
            f"lr {record['lr']:.2e}  {self._rate:,.0f} tokens/s{utilisation}  {duration(seconds_left)} left",
            share=record["step"] / self._num_steps,
        )

    def _on_evaluation(self, record: dict[str, Any]) -> None:
        self._shown.say(
            f"step {record['step']:,}/{self._num_steps:,}  held out: {record['loss_nats']:.4f} nats/token, "
            f"perplexity {record['perplexity']:.2f}, {record['bits_per_byte']:.4f} bits per byte"
        )

    def _on_asked(self, record: dict[str, Any]) -> None:
        done, whole = record["files"], record["of"]
        self._shown.show(f"asking the teachers: {done}/{whole} parts of the text", share=done / whole)

    def _on_finished(self, record: dict[str, Any]) -> None:
        self._shown.clear()

    def _on_note(self, record: dict[str, Any]) -> None:
        self._shown.say(f"note: {record['message']}")
