"""Slips of the hand at the command line: one sentence with its fix, the right exit code, nothing left behind."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from stentor.config import Recipe
from stentor.errors import UserError
from stentor.train import plan as plan_module
from stentor.train.plan import plan, require_memory

# --- memory ---


@pytest.mark.parametrize(
    "overrides",
    [["train.micro_batch_size=1000000", "train.global_batch_tokens=1024000000"], ["model.hidden_size=1e12"]],
)
def test_a_run_beyond_the_machine_is_refused_before_it_is_built(overrides, monkeypatch):
    recipe = Recipe.load("stentor2-12m", overrides=["train.tokens=1024000000", *overrides])
    monkeypatch.setattr(plan_module, "_machine_bytes", lambda device: 16 << 30)
    with pytest.raises(UserError, match=r"takes about [\d,.]+ GB of memory, \w+ has 17.2") as caught:
        plan(recipe)
    assert "micro_batch_size" in caught.value.fix


def test_a_micro_batch_larger_than_the_step_costs_no_more_than_the_step():
    recipe = Recipe.load("tiny")
    train = dataclasses.replace(recipe.train, micro_batch_size=10**9)
    require_memory(dataclasses.replace(recipe, train=train), torch.device("cpu"))


# --- signals and streams ---

STENTOR = [sys.executable, "-m", "stentor"]


def start(*arguments: object, cwd: Path, **streams: Any) -> subprocess.Popen[Any]:
    return subprocess.Popen([*STENTOR, *map(str, arguments)], cwd=cwd, **streams)


def wait_for(path: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not list(path.glob(pattern)):
        assert time.monotonic() < deadline, f"{pattern} never appeared in {path}"
        time.sleep(0.01)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_corpus_is_made_leaves_nothing(tmp_path, signum):
    source = tmp_path / "text.jsonl"
    source.write_text('{"text": "%s"}\n' % ("word " * 100_000), encoding="utf-8")
    text = ["--set", f"text.source={','.join([f'{source}=1'] * 500)}", "--set", "text.min_characters=1000000000"]
    process = start("prepare", "tiny", "--data", "data", *text, cwd=tmp_path, stderr=subprocess.PIPE)
    wait_for(tmp_path / "data", ".corpus.*.partial")
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_command_line_is_imported(tmp_path, signum):
    (tmp_path / "typer.py").write_text(f"import os\nos.kill(os.getpid(), {int(signum)})\n", encoding="utf-8")
    done = subprocess.run(STENTOR, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def in_process(code: str, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    program = (
        f"import sys, typer\nfrom stentor.cli import main, output\n@main.app.command()\ndef speak():\n    {code}\n"
    )
    ending = "sys.argv = ['stentor', 'speak']\nmain.main()\n"
    return subprocess.run([sys.executable, "-c", program + ending], timeout=60, check=False, **streams)


def test_a_reader_that_has_had_enough_ends_the_command_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    done = in_process("output.put('x' * 100); open('never')", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_progress_that_nobody_hears_does_not_end_the_work():
    reader, writer = os.pipe()
    os.close(reader)
    done = in_process("output.talk('x' * 100); output.put('done')", stdout=subprocess.PIPE, stderr=writer)
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, b"done")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_answer_that_finds_no_space_is_one_sentence():
    with Path("/dev/full").open("wb") as full:
        done = in_process("output.answer('x', {}, as_json=False)", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 3
    assert done.stderr.startswith(b"error: the answer cannot be written to stdout (No space left on device)\n  fix: ")


@pytest.mark.skipif(os.name == "nt", reason="a closed stdin needs POSIX")
def test_a_closed_stdin_is_one_sentence():
    done = in_process("output.read_stdin()", stderr=subprocess.PIPE, preexec_fn=lambda: os.close(0))
    assert done.returncode == 3
    assert done.stderr.startswith(b"error: there is no stdin to read\n  fix: ")


# --- what the system refuses anywhere ---


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        ("OSError(36, 'File name too long', 'x' * 9)", 3, b"error: xxxxxxxxx cannot be used (File name too long)"),
        ("PermissionError(13, 'no', '/secret')", 3, b"error: /secret cannot be used (Permission denied)"),
        ("OSError(28, 'full')", 3, b"error: no space left on the disk\n"),
        ("MemoryError()", 3, b"error: there is not enough memory"),
        ("RuntimeError('[enforce] DefaultCPUAllocator: can\\'t allocate memory: 5')", 3, b"there is not enough memory"),
        ("OSError('strange')", 1, b"this is a bug in Stentor: OSError: strange"),
    ],
)
def test_what_the_system_refuses_is_no_bug_of_ours(error, code, said):
    done = in_process(f"raise {error}", stderr=subprocess.PIPE)
    assert done.returncode == code
    assert said in done.stderr
    assert b"\n  fix: " in done.stderr
