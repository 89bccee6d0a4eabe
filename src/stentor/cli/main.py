"""The entry point: collects the commands, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from stentor.artifacts import write_file
from stentor.cli import tokenizer
from stentor.cli.bench import bench
from stentor.cli.card import card
from stentor.cli.compare import compare
from stentor.cli.contamination import contamination
from stentor.cli.demo import demo
from stentor.cli.doctor import doctor
from stentor.cli.evaluate import evaluate
from stentor.cli.export import export
from stentor.cli.finetune import finetune
from stentor.cli.generate import generate
from stentor.cli.memorization import memorization
from stentor.cli.prepare import prepare
from stentor.cli.train import train
from stentor.errors import EchoedError, StentorError, UserError, missing_extra, refusal_of
from stentor.version import __version__

BUG = 1
_NO_MEMORY = re.compile(r"^(torch\.)?OutOfMemoryError|DefaultCPUAllocator: can't allocate memory")
_EXTRAS = {"torch": "train", "gguf": "export"}
"""The optional packages that stages import as they load; others are asked for where they are used."""

app = typer.Typer(
    name="stentor",
    help="Train, measure, compress and ship tiny language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would take half of the time that --help may take
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS = (
    *(demo, prepare, train, compare, evaluate, contamination, memorization),
    *(generate, finetune, export, card, bench, doctor),
)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(tokenizer.app, name="tokenizer")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Train, measure, compress and ship tiny language models."""
    if debug:
        os.environ["STENTOR_DEBUG"] = "1"


def main() -> None:
    """Run the command line and exit with its code: 0 ok, 1 bug, 2 usage, 3 bad input, 4 missing, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without emoji is no reason to fail
    try:
        with _unwound_by_signals():
            app()
    except Exception as error:
        sys.exit(_report(error))


@contextlib.contextmanager
def _unwound_by_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the command as Ctrl-C does, so that nothing half-written stays behind."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    names = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    signals = [signal.Signals[name] for name in names if name in signal.Signals.__members__]
    caught = [signum for signum in signals if signal.getsignal(signum) == signal.SIG_DFL]  # not what nohup ignores
    for signum in caught:
        signal.signal(signum, interrupt)
    try:
        yield
    finally:
        for signum in caught:
            signal.signal(signum, signal.SIG_DFL)


def _report(error: Exception) -> int:
    """Print what went wrong on stderr and return the exit code."""
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        error = missing_extra(error.name, _EXTRAS[error.name], needed_for="this command")
    elif isinstance(error, OSError):
        error = refusal_of(error) or error
    elif isinstance(error, MemoryError) or _NO_MEMORY.search(f"{type(error).__name__}: {error}"):
        error = UserError("there is not enough memory", fix="use a smaller model or micro-batch, or end other programs")
    if not isinstance(error, StentorError):
        typer.echo(_bug_report(error), err=True)
        return BUG
    if os.environ.get("STENTOR_DEBUG"):
        traceback.print_exception(error)
    if not isinstance(error, EchoedError):
        typer.echo(f"error: {error}", err=True)
    return error.exit_code


def _bug_report(error: Exception) -> str:
    """Save the traceback to a file, or show it on request, and say what happened."""
    text = "".join(traceback.format_exception(error))
    if os.environ.get("STENTOR_DEBUG"):
        return text
    path = Path(tempfile.gettempdir()) / f"stentor-traceback-{os.getpid()}.txt"
    try:
        write_file(path, text)
    except (StentorError, OSError):
        return text
    return (
        f"error: this is a bug in Stentor: {type(error).__name__}: {error}\n"
        f"  fix: please report it with the traceback in {path}"
    )
