"""Trackers get what the log gets, once, whatever stops a run: read back from TensorBoard's files, trackio's database.

trackio is no part of the development packages (it pins an older pillow): where it is not installed, a stand-in that
only remembers its calls takes its place, and the test of the real one is skipped.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
from types import ModuleType

import pytest

from stentor.artifacts import write_file
from stentor.errors import InterruptedRunError, MissingDependencyError, UserError
from stentor.train.log import TrainingLog, records_of, to_all
from stentor.train.loop import train
from stentor.train.trackers import metrics, tracker


class Crash(BaseException):
    pass


def stop_at(step: int, how: str = "signal"):
    def stop(record: dict) -> None:
        if record["kind"] == "train" and record["step"] == step:
            if how == "crash":
                raise Crash
            os.kill(os.getpid(), signal.SIGTERM)

    return stop


def expected(run_dir) -> dict[str, dict[int, float]]:
    """Return what a tracker must hold of a run: the numbers of its log by name and step."""
    found: dict[str, dict[int, float]] = {}
    for record in records_of(run_dir):
        for name, value in metrics(record).items():
            found.setdefault(name, {})[record["step"]] = value
    return found


def follow(name: str, recipe, shards, run_dir, *others) -> None:
    with tracker(name, run_dir) as observer:
        train(recipe, shards, run_dir, observer=to_all((observer, *others)))


# --- names --------------------------------------------------------------------------------------------------


def test_numbers_have_names_by_what_they_are_of():
    train_record = {
        "kind": "train",
        "step": 1,
        "loss_nats": 5.0,
        "lr": 1e-3,
        "grad_norm": None,
        "tokens_per_second": 9.0,
    }
    assert metrics(train_record) == {"train/loss_nats": 5.0, "train/lr": 1e-3, "train/tokens_per_second": 9.0}
    evaluation = {"kind": "evaluation", "loss_nats": 5.0, "perplexity": math.inf, "bits_per_byte": 2.0, "num_tokens": 3}
    assert metrics(evaluation) == {"held_out/loss_nats": 5.0, "held_out/bits_per_byte": 2.0}
    scales = {
        "kind": "scales",
        "weights": {"embedding": 0.5, "qkv": [0.1, None]},
        "activations": {"mlp": [1.0, 2.0]},
        "max_logit": 7.0,
    }
    assert metrics(scales) == {
        "weights/embedding": 0.5,
        "weights/qkv/01": 0.1,
        "activations/mlp/01": 1.0,
        "activations/mlp/02": 2.0,
        "activations/max_logit": 7.0,
    }


@pytest.mark.parametrize("kind", ["start", "note", "saved", "finished", "of another version"])
def test_other_records_have_no_numbers(kind):
    assert metrics({"kind": kind, "step": 3}) == {}


def test_an_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(UserError, match="no tracker named 'tensorbord'") as caught:
        tracker("tensorbord", tmp_path)
    assert "did you mean 'tensorboard'" in caught.value.fix


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("trackio", "trackio")])
def test_without_its_package_the_extra_is_named_before_anything_is_begun(tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError) as caught, tracker(name, tmp_path / "run"):
        pass
    assert caught.value.fix == f"pip install 'stentor[{name}]'"
    assert not (tmp_path / "run").exists()


# --- TensorBoard --------------------------------------------------------------------------------------------


def events_of(run_dir) -> dict[str, dict[int, float]]:
    """Read the scalars as TensorBoard shows them; a step that is there twice fails."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    loaded = accumulator.EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    found = {}
    for name in loaded.Tags()["scalars"]:
        events = loaded.Scalars(name)
        assert len({event.step for event in events}) == len(events), f"{name} has a step twice"
        found[name] = {event.step: event.value for event in events}
    return found


def check_events(run_dir) -> None:
    found, wanted = events_of(run_dir), expected(run_dir)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name] == pytest.approx(values, rel=1e-6), name


needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)


@pytest.fixture(autouse=True)
def first_writers(monkeypatch) -> None:
    """Let files be numbered from 0, as in a process of its own: of two made in one second, 10 is read before 9."""
    if importlib.util.find_spec("tensorboard"):
        from tensorboard.summary.writer import event_file_writer

        monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


@needs_tensorboard
def test_tensorboard_holds_what_the_log_holds(tiny_recipe, tiny_shards, tmp_path):
    follow("tensorboard", tiny_recipe, tiny_shards, tmp_path / "run")
    check_events(tmp_path / "run")
    assert len(events_of(tmp_path / "run")["train/loss_nats"]) == 13
    assert {"held_out/bits_per_byte", "weights/qkv/02", "activations/residual/01"} <= events_of(tmp_path / "run").keys()


@needs_tensorboard
@pytest.mark.parametrize("how", ["signal", "crash"])
@pytest.mark.parametrize("step", [1, 8, 11])
def test_tensorboard_forgets_what_a_resumed_run_makes_again(tiny_recipe, tiny_shards, tmp_path, how, step):
    """A crash at step 11 goes on from step 9, so that 10 and 11 come twice."""
    with pytest.raises((InterruptedRunError, Crash)):
        follow("tensorboard", tiny_recipe, tiny_shards, tmp_path / "run", stop_at(step, how))
    follow("tensorboard", tiny_recipe, tiny_shards, tmp_path / "run")
    check_events(tmp_path / "run")


@needs_tensorboard
def test_tensorboard_changes_no_bit_of_a_run(tiny_recipe, tiny_shards, tmp_path):
    recipe = dataclasses.replace(tiny_recipe, train=dataclasses.replace(tiny_recipe.train, tokens=4 * 8 * 32))
    follow("tensorboard", recipe, tiny_shards, tmp_path / "followed")
    train(recipe, tiny_shards, tmp_path / "alone")
    losses = [
        [
            (record["step"], record["loss_nats"])
            for record in records_of(run)
            if record["kind"] in ("train", "evaluation")
        ]
        for run in (tmp_path / "followed", tmp_path / "alone")
    ]
    assert losses[0] == losses[1]


# --- trackio, by its calls ----------------------------------------------------------------------------------


class Recorder(ModuleType):
    """Stands in for trackio: remembers what it is called with, and prints as it does."""

    def __init__(self) -> None:
        super().__init__("trackio")
        self.runs: list[dict] = []
        self.rows: list[tuple[int, dict]] = []
        self.is_finished = False

    def init(self, project: str, *, name: str, resume: str, config: dict, embed: bool) -> None:
        print("* Created new run")
        self.runs.append({"project": project, "name": name, "resume": resume, "config": config, "embed": embed})

    def log(self, values: dict, step: int) -> None:
        self.rows.append((step, values))

    def finish(self) -> None:
        if not self.runs:
            raise RuntimeError("Call trackio.init() before trackio.finish().")
        print("* Run finished")
        self.is_finished = True

    def held(self) -> dict[str, dict[int, float]]:
        found: dict[str, dict[int, float]] = {}
        for step, values in self.rows:
            for name, value in values.items():
                assert step not in found.setdefault(name, {}), f"{name} has step {step} twice"
                found[name][step] = value
        return found


@pytest.fixture
def recorder(monkeypatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "trackio", recorder)
    return recorder


def test_trackio_gets_what_the_log_gets_and_stdout_stays_clean(recorder, tiny_recipe, tiny_shards, tmp_path, capsys):
    follow("trackio", tiny_recipe, tiny_shards, tmp_path / "mine")
    assert recorder.held() == expected(tmp_path / "mine")
    (run,) = recorder.runs
    assert (run["project"], run["name"], run["resume"], run["embed"]) == ("stentor", "mine", "never", False)
    assert run["config"]["train"]["lr"] == tiny_recipe.train.lr
    assert recorder.is_finished
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("how", ["signal", "crash"])
@pytest.mark.parametrize("step", [1, 8, 11])
def test_trackio_is_not_sent_anything_twice(recorder, tiny_recipe, tiny_shards, tmp_path, how, step):
    with pytest.raises((InterruptedRunError, Crash)):
        follow("trackio", tiny_recipe, tiny_shards, tmp_path / "run", stop_at(step, how))
    follow("trackio", tiny_recipe, tiny_shards, tmp_path / "run")
    assert [run["resume"] for run in recorder.runs] == ["never", "allow"]
    sent, wanted = recorder.held(), expected(tmp_path / "run")
    rates = (numbers.pop("train/tokens_per_second") for numbers in (sent, wanted))
    assert len({tuple(rate) for rate in rates}) == 1, "what is timed again differs, and stays as it was first"
    assert sent == wanted


def test_trackio_is_left_alone_where_a_run_is_refused(recorder, tiny_recipe, tiny_shards, tmp_path):
    train(tiny_recipe, tiny_shards, tmp_path / "run")
    other = dataclasses.replace(tiny_recipe, train=dataclasses.replace(tiny_recipe.train, lr=0.25))
    with pytest.raises(UserError, match="another recipe"):
        follow("trackio", other, tiny_shards, tmp_path / "run")
    assert recorder.runs == recorder.rows == []


# --- trackio itself -----------------------------------------------------------------------------------------

TRACK = """
import json, sys
from pathlib import Path
from stentor.train.log import TrainingLog
from stentor.train.trackers import tracker
run_dir, records = Path(sys.argv[1]), json.loads(sys.argv[2])
with tracker("trackio", run_dir) as observer:
    log = TrainingLog(run_dir, observer)
    for record in records:
        log.record(record.pop("kind"), **record)
"""


@pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="trackio is not installed")
def test_the_real_trackio_keeps_each_step_once(tmp_path):
    run_dir, database = tmp_path / "mine", tmp_path / "trackio"
    write_file(run_dir / "recipe.toml", "name = 'mine'\n[train]\nlr = 1e-3\n")

    def update(step: int) -> dict:
        return {
            "kind": "train",
            "step": step,
            "loss_nats": 5.0 / step,
            "lr": 0.1,
            "grad_norm": 1.0,
            "tokens_per_second": 9.0,
        }

    def session(*records: dict) -> None:
        done = subprocess.run(
            [sys.executable, "-c", TRACK, str(run_dir), json.dumps(records)],
            env={
                **os.environ,
                "TRACKIO_DIR": str(database),
                "HF_HUB_OFFLINE": "1",
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr

    session({"kind": "start", "step": 0}, update(1), update(2), update(3))
    TrainingLog(run_dir, None)
    session({"kind": "start", "step": 2}, update(3), update(4))
    (path,) = database.glob("stentor*.db")
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    connection.close()
    assert [(name, step) for name, step, _ in rows] == [("mine", step) for step in (1, 2, 3, 4)]
    assert [json.loads(values)["train/loss_nats"] for *_, values in rows] == [5.0 / step for step in (1, 2, 3, 4)]
