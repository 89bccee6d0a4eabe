"""stentor train: the plan, the run, Ctrl-C, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from stentor.artifacts import write_file
from stentor.train.plan import Plan

NUMBERS = {"loss_nats", "perplexity", "bits_per_byte", "num_tokens", "num_bytes"}


def evaluations(run) -> list[dict]:
    records = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == "evaluation"]


def test_a_run_answers_with_its_best_evaluation(cli, world):
    best = min(evaluations(world.run), key=lambda record: record["loss_nats"])
    value = cli("train", world.recipe, "--data", world.data, "--run", world.run, "--json").value
    assert value == {"run": str(world.run), "best_step": best["step"], **{name: best[name] for name in NUMBERS}}


def test_text_prepared_trained_and_drawn_in_one_command(cli, new_world, monkeypatch):
    monkeypatch.chdir(new_world.folder)
    outcome = cli("train", new_world.recipe)
    assert outcome.code == 0, outcome.err
    run = new_world.folder / "runs" / "tiny-test"
    assert "runs/tiny-test" in outcome.out
    assert "bits per byte" in outcome.out
    assert "reading and cleaning text" in outcome.err
    assert "training 32,928 parameters for 13 steps" in outcome.err
    assert "step 13/13  held out: " in outcome.err
    assert (new_world.folder / "data" / "tiny-test" / "shards" / "train.bin").exists()
    names = ["curves.png", "curves.svg", "dynamics.png", "dynamics.svg", "table.md"]
    assert sorted(path.name for path in (run / "report").iterdir()) == names


def test_without_matplotlib_the_run_is_there_and_the_curves_are_not(cli, world, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    outcome = cli("train", world.recipe, "--data", world.data, "--run", tmp_path / "run", "--json")
    assert outcome.value["best_step"] > 0
    assert "no curves: " in outcome.err
    assert "pip install 'stentor[report]'" in outcome.err
    assert [path.name for path in (tmp_path / "run" / "report").iterdir()] == ["table.md"]


@pytest.mark.slow
def test_a_run_is_followed_in_tensorboard(cli, world, tmp_path):
    pytest.importorskip("tensorboard")
    command = ["train", world.recipe, "--data", world.data, "--run", tmp_path / "run", "--track", "tensorboard"]
    assert cli(*command, "--json").value["best_step"] > 0
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("trackio", "trackio")], ids=lambda text: text
)
def test_a_tracker_that_is_not_installed_is_named_before_anything_is_made(cli, new_world, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    command = ["train", new_world.recipe, "--data", new_world.data, "--run", new_world.run, "--track", name]
    cli(*command).fails(4, f"needs the package '{name}'", f"pip install 'stentor[{name}]'")
    assert not new_world.run.exists()
    assert not new_world.data.exists()


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(cli, new_world):
    before = sorted(new_world.folder.rglob("*"))
    command = ["train", new_world.recipe, "--data", new_world.data, "--run", new_world.run, "--dry-run"]
    outcome = cli(*command)
    assert outcome.code == 0
    assert "32,928" in outcome.out
    assert "13, the last one of 128 tokens" in outcome.out
    assert "[model]" in outcome.out
    value = cli(*command, "--json").value
    assert value.keys() == Plan.__dataclass_fields__.keys()
    assert (value["num_parameters"], value["num_tokens"], value["num_steps"]) == (32_928, 3_200, 13)
    assert value["tokens_per_second"] > 0
    assert sorted(new_world.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stentor2"], ["no recipe named 'stentor2'", "did you mean"]),
        (["RECIPE", "--set", "train.token=4"], ["unknown key train.token", "did you mean 'tokens'?"]),
        (["RECIPE", "--set", "trian.lr=4"], ["unknown key 'trian'", "did you mean 'train'?"]),
        (["RECIPE", "--set", "train.tokens=100"], ["not a multiple of the context length 32", "use 128"]),
        (["RECIPE", "--set", "model.vocab_size=300"], ["320 tokens do not fit model.vocab_size 300", "to 384"]),
        (["RECIPE", "--resume", "never"], ["already exists"]),
        (["RECIPE", "--set", "train.lr=0.5"], ["started with another recipe", "'lr = 0.005', now 'lr = 0.5'"]),
        (["RECIPE", "--set", "text.min_characters=21"], ["made with other settings"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_refused_and_the_run_is_left_alone(cli, world, arguments, said):
    before = {path: path.stat().st_mtime_ns for path in world.folder.rglob("*") if path.name != ".lock"}
    recipe, *rest = (str(world.recipe) if argument == "RECIPE" else argument for argument in arguments)
    cli("train", recipe, "--data", world.data, "--run", world.run, *rest).fails(3, *said)
    assert {path: path.stat().st_mtime_ns for path in world.folder.rglob("*") if path.name != ".lock"} == before


def test_a_corpus_smaller_than_one_sequence_is_refused_before_a_run_is_begun(cli, new_world):
    long = ["--set", "model.max_position_embeddings=65536", "--set", "train.tokens=65536"]
    cli(
        *("train", new_world.recipe, "--data", new_world.data, "--run", new_world.run, *long),
        *("--set", "train.global_batch_tokens=65536"),
    ).fails(3, "one sequence takes 65536", "give more text, or set model.max_position_embeddings")
    assert not new_world.run.exists()


@pytest.mark.slow
def test_other_data_than_the_run_began_with_are_refused(cli, new_world):
    command = ["train", new_world.recipe, "--data", new_world.data, "--run", new_world.run]
    assert cli(*command).code == 0
    write_file(new_world.text, b"".join(new_world.text.read_bytes().splitlines(keepends=True)[:-9]))
    assert cli("prepare", new_world.recipe, "--data", new_world.data, "--force").code == 0
    cli(*command).fails(3, "was trained on other data than", "another --run folder")


def test_a_run_that_another_process_holds_is_refused(cli, world):
    from stentor.artifacts import locked_directory

    with locked_directory(world.run):
        cli("train", world.recipe, "--data", world.data, "--run", world.run).fails(
            3, f"in use by another process (process {os.getpid()} on "
        )


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_saves_and_is_exit_code_130(cli, world, tmp_path):
    run = tmp_path / "run"
    arguments = [world.recipe, "--data", world.data, "--run", run, "--set", "train.tokens=3200000"]
    arguments += ["--set", "train.save_every=100000", "--set", "train.eval_every=100000"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from stentor.cli.main import main; main()", "train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (run / "log.jsonl").exists() or b'"train"' not in (run / "log.jsonl").read_bytes():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    assert "error: stopped at step " in err
    assert "fix: run the same command again to go on" in err
    step = json.loads((run / "latest.json").read_text())["step"]
    assert f"stopped at step {step} of 12500, saved in {run}" in err
    assert cli("evaluate", run, world.text, "--no-baselines", "--json").value["num_tokens"] > 0
