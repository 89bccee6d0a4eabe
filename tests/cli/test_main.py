"""The entry point: exit codes, pure stdout, quick help, no traceback for what a user can mend."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stentor import version
from stentor.cli.main import app
from stentor.errors import EchoedError, InterruptedRunError, UserError

COMMANDS = [
    *("demo", "prepare", "train", "compare", "evaluate", "contamination", "memorization"),
    *("generate", "finetune", "export", "card", "bench", "doctor"),
]
TOKENIZER_COMMANDS = ["train", "encode", "decode", "compare"]
HEAVY = ("torch", "tokenizers", "datasets", "transformers", "matplotlib", "pyarrow", "safetensors", "numpy", "rich")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture
def broken(monkeypatch):
    """Return a function that makes `stentor doctor` raise."""

    def break_with(error: BaseException) -> None:
        def examine():
            raise error

        monkeypatch.setattr("stentor.doctor.examine", examine)
        monkeypatch.delenv("STENTOR_DEBUG", raising=False)

    return break_with


# --- help ---


def test_every_command_is_known_here():
    assert sorted(command.callback.__name__ for command in app.registered_commands if command.callback) == sorted(
        COMMANDS
    )


@pytest.mark.parametrize(
    "command", [[name] for name in COMMANDS] + [["tokenizer", name] for name in TOKENIZER_COMMANDS], ids=" ".join
)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_every_command_has_an_example_of_that_command(cli, command, flag):
    outcome = cli(*command, flag)
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(rf"Example: .*stentor {' '.join(command)} ", " ".join(outcome.out.split()))
    assert "--json" in outcome.out


def test_help_lists_the_commands(cli):
    outcome = cli("--help")
    assert outcome.code == 0
    assert all(f"  {name} " in outcome.out for name in [*COMMANDS, "tokenizer"])


def test_help_needs_none_of_the_heavy_packages():
    done = python(
        "import sys; sys.argv = ['stentor', '--help']\n"
        "from stentor.cli.main import main\n"
        "try: main()\n"
        f"except SystemExit: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    assert done.stderr.strip() == "[]"
    assert "Usage: stentor" in done.stdout


def test_version(cli):
    assert cli("--version").out == f"{version.__version__}\n"


# --- exit codes ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train"], "Missing argument"),
        (["train", "tiny", "--lr", "1"], "No such option"),
        (["train", "tiny", "--resume", "perhaps"], "perhaps"),
        (["generate"], "Missing argument"),
        (["generate", "Hello", "--model", "m", "--top-k", "many"], "'--top-k'"),
        (["evaluate"], "Missing argument"),
    ],
)
def test_what_cannot_be_understood_is_exit_code_2(cli, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    cli(*arguments).fails(2, said)
    assert list(tmp_path.iterdir()) == []


def test_a_users_mistake_is_one_sentence_and_its_fix(cli, broken):
    broken(UserError("the moon is not here", fix="wait until tonight"))
    outcome = cli("doctor")
    outcome.fails(3)
    assert outcome.err.endswith("error: the moon is not here\n  fix: wait until tonight\n")


def test_an_interrupted_run_is_exit_code_130(cli, broken):
    broken(InterruptedRunError("stopped at step 3", fix="run it again"))
    cli("doctor").fails(130, "stopped at step 3")


def test_what_another_process_has_said_is_not_said_again(cli, broken):
    broken(EchoedError(130))
    outcome = cli("doctor")
    assert outcome.code == 130
    assert "error" not in outcome.err


def test_ctrl_c_anywhere_else_is_exit_code_130(cli, broken):
    broken(KeyboardInterrupt())
    cli("doctor").fails(130)


# --- bugs of ours ---


def test_a_bug_is_exit_code_1_and_its_traceback_is_in_a_file(cli, broken, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    broken(ZeroDivisionError("secret cause"))
    outcome = cli("doctor")
    outcome.fails(1, "this is a bug in Stentor: ZeroDivisionError: secret cause", "please report it")
    (saved,) = tmp_path.iterdir()
    assert str(saved) in outcome.err
    assert saved.read_text().startswith("Traceback (most recent call last)")
    assert "secret cause" in saved.read_text()


def test_a_bug_where_nothing_can_be_written_still_shows_its_traceback(cli, broken, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    broken(ZeroDivisionError("secret cause"))
    outcome = cli("doctor")
    assert (outcome.code, outcome.out) == (1, "")
    assert "Traceback" in outcome.err
    assert "secret cause" in outcome.err


@pytest.mark.parametrize(("error", "code"), [(UserError("bad"), 3), (ZeroDivisionError("bad"), 1)])
def test_debug_shows_the_traceback(cli, broken, monkeypatch, error, code):
    broken(error)
    monkeypatch.setenv("STENTOR_DEBUG", "")  # is restored after the command has set it
    outcome = cli("--debug", "doctor")
    assert (outcome.code, outcome.out) == (code, "")
    assert "Traceback" in outcome.err
    assert "in examine" in outcome.err


# --- packages that are not there ---


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "tiny"],
        ["train", "tiny", "--dry-run"],
        ["export", "model", "out", "--to", "huggingface"],
        ["demo"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_without_torch_a_command_names_the_extra_and_is_exit_code_4(tmp_path, arguments):
    code = "import sys; sys.modules['torch'] = None; from stentor.cli.main import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.endswith(
        "error: this command needs the package 'torch', which is not installed\n  fix: pip install 'stentor[train]'\n"
    )
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_torch_prepare_works(new_world):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['stentor', 'prepare', {str(new_world.recipe)!r}, '--data', {str(new_world.data)!r}]\n"
        "from stentor.cli.main import main; main()"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert (new_world.data / "shards" / "train.bin").exists()


# --- streams ---


def test_a_terminal_without_emoji_is_no_reason_to_fail():
    code = (
        "import sys, typer\n"
        "from stentor.cli import main\n"
        "@main.app.command()\n"
        "def speak(): typer.echo('caf\\u00e9 \\U0001f600 \\udc80')\n"
        "sys.argv = ['stentor', 'speak']; main.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"caf\xe9 ? ?\n", b"")


def test_the_installed_program_runs():
    program = Path(sys.executable).with_name("stentor")
    if not program.exists():
        pytest.skip("stentor is not installed as a program")
    done = subprocess.run([program, "train", "timy"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: no recipe named 'timy'\n  fix: did you mean 'tiny'?")
