"""Several processes train as one does: the same losses, the same weights in each, and they stop and fail together."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch._C._distributed_c10d import TCPStore

from stentor.artifacts import locked_directory, write_file
from stentor.errors import InterruptedRunError, UserError
from stentor.train import distributed
from stentor.train.distributed import ALONE, World, joined
from stentor.train.loop import train
from stentor.train.step import IGNORED_LABEL

from .rank_process import DIED

RELATIVE = 1e-5
"""Between one process and two, in float32, of losses and gradient norms: sums are taken in another order."""
STEPS = 15
ROWS = st.integers(1, 9)
SIZES = st.integers(1, 5)


@pytest.mark.parametrize("environ", [{}, {"WORLD_SIZE": "1"}], ids=["no torchrun", "torchrun with one process"])
def test_alone_nothing_is_touched(monkeypatch, environ):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    rows_BT = torch.ones(3, 4)
    with joined() as world:
        assert world is ALONE
        assert world.share(rows_BT, filler=0) is rows_BT
        world.sum_in_place([rows_BT])
        with world.in_turn():
            world.barrier()
        world.require_same("a", what="recipe", fix="")
        assert (world.total(0.1), world.any(True), world.any(False)) == (0.1, True, False)
        assert not dist.is_initialized()
    assert rows_BT.tolist() == torch.ones(3, 4).tolist()


# ------------------------------------------------------------------------------------------- who takes what of a step


@given(ROWS, SIZES)
def test_shares_are_equal_and_make_up_the_step(num_rows, size):
    rows_BT = torch.arange(num_rows * 2).view(num_rows, 2)
    shares = [World(rank, size).share(rows_BT, filler=IGNORED_LABEL) for rank in range(size)]
    assert {len(share) for share in shares} == {math.ceil(num_rows / size)}
    merged_BT = torch.cat(shares)
    assert torch.equal(merged_BT[merged_BT[:, 0] != IGNORED_LABEL], rows_BT)
    assert (merged_BT == IGNORED_LABEL).sum() == merged_BT.numel() - rows_BT.numel()


@given(st.integers(0, 40), st.integers(1, 7), SIZES)
def test_parts_make_up_the_stream_in_whole_windows(num_tokens, span, size):
    ids = np.arange(100, 100 + num_tokens)
    parts = [World(rank, size).part(ids, 7, span=span) for rank in range(size)]
    assert np.concatenate([part for part, _ in parts]).tolist() == ids.tolist()
    start = 0
    for part, before in parts:
        if len(part):
            assert start % span == 0
            assert before == (ids[start - 1] if start else 7)
        start += len(part)


# ------------------------------------------------------------------------------------------------- what cannot be met


@pytest.fixture
def torchrun(monkeypatch):
    """Return a function that sets what torchrun sets, for the first of two processes."""

    def set_environment(**changes: str) -> None:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        stores.append(store)
        for name, value in {**environment(0, 2, store.port), **changes}.items():
            monkeypatch.setenv(name, value)

    stores: list[TCPStore] = []
    return set_environment


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    numbers = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    return {
        **{name: str(number) for name, number in numbers.items()},
        "MASTER_ADDR": "127.0.0.1",
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store's host is who starts the processes
    }


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_half_an_environment_is_refused(torchrun, monkeypatch, name):
    torchrun()
    monkeypatch.delenv(name)
    with pytest.raises(UserError, match=f"WORLD_SIZE is 2, but .*{name}") as caught, joined():
        pass
    assert "torchrun --nproc-per-node N -m stentor train RECIPE" in caught.value.fix


def test_more_processes_than_cores_are_refused(torchrun, monkeypatch):
    torchrun()
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(distributed, "pick_device", lambda: torch.device("cpu"))
    with pytest.raises(UserError, match="2 processes were started on one machine, but its CPU cores are 1"), joined():
        pass


def test_more_processes_than_gpus_are_refused(torchrun, monkeypatch):
    torchrun(WORLD_SIZE="4", LOCAL_WORLD_SIZE="4")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(distributed, "pick_device", lambda: torch.device("cuda"))
    with pytest.raises(UserError, match="but its NVIDIA GPUs are 3") as caught, joined():
        pass
    assert "torchrun --nproc-per-node 3 " in caught.value.fix


def test_a_mac_trains_with_one_process(torchrun, monkeypatch):
    torchrun()
    monkeypatch.setattr(distributed, "pick_device", lambda: torch.device("mps"))
    with pytest.raises(UserError, match="CPUs or on NVIDIA GPUs only"), joined():
        pass
    assert distributed._current.get() is ALONE


# ------------------------------------------------------------------------------------------------------ two processes


class Pair:
    """Two processes that stay, to be asked for runs; see `rank_process.py`."""

    def __init__(self, recipe: Path, shards: Path) -> None:
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        common = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        self.processes = [
            subprocess.Popen(
                [sys.executable, Path(__file__).with_name("rank_process.py"), recipe, shards],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # gloo tells there what became of its connections
                text=True,
                env={**common, **environment(rank, 2, self._store.port)},
            )
            for rank in range(2)
        ]

    def __call__(self, run: Path, **request) -> list[dict]:
        """Return the answers of both; nothing of a process that died."""
        for process in self.processes:
            assert process.stdin
            process.stdin.write(json.dumps({"run": str(run), **request}) + "\n")
            process.stdin.flush()
        return [json.loads(p.stdout.readline() or "{}") for p in self.processes if p.stdout]

    def close(self) -> list[int]:
        for process in self.processes:
            process.communicate()
        return [process.returncode for process in self.processes]


@pytest.fixture(scope="module")
def recipe(tiny_recipe):
    """Return a recipe of 15 steps, shared unevenly, whose last has one sequence: the second process has none."""
    train = dataclasses.replace(
        tiny_recipe.train, tokens=99 * 32, global_batch_tokens=7 * 32, micro_batch_size=3, precision="float32"
    )
    return dataclasses.replace(tiny_recipe, train=train)


@pytest.fixture(scope="module")
def new_pair(tmp_path_factory, recipe, tiny_shards):
    path = tmp_path_factory.mktemp("pair") / "tiny-test.toml"
    write_file(path, recipe.to_toml())
    return lambda: Pair(path, tiny_shards.path)


@pytest.fixture(scope="module")
def pair(new_pair):
    pair = new_pair()
    yield pair
    assert pair.close() == [0, 0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, recipe, tiny_shards):
    return train(recipe, tiny_shards, tmp_path_factory.mktemp("alone") / "run")


@pytest.fixture(scope="module")
def both(tmp_path_factory, pair):
    run = tmp_path_factory.mktemp("both") / "run"
    return run, pair(run)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, pair):
    """Return a run of two processes that the second one was asked to stop, and their answers."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    return run, pair(run, rank=1, step=5, then="stop")


def records(run: Path, kind: str) -> list[dict]:
    lines = (run / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def trace(run: Path) -> list[tuple[float, ...]]:
    """Return the numbers of every update; an infinite norm, which JSON lacks, is None in the log."""
    keys = ("step", "tokens_seen", "lr", "loss_nats", "grad_norm")
    return [tuple(math.inf if r[key] is None else r[key] for key in keys) for r in records(run, "train")]


def files_sha256(run: Path, step: int) -> dict[str, str]:
    folder = run / "checkpoints" / f"step-{step:07d}"
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def assert_close(run: Path, twin: Path, *, relative: float = RELATIVE, of_norms: float | None = None) -> None:
    """Compare updates and evaluations; `of_norms` is of the gradients' norms alone, where they may differ by more."""
    ours, theirs = trace(run), trace(twin)
    assert [row[0] for row in ours] == list(range(1, STEPS + 1))
    np.testing.assert_allclose([row[:-1] for row in ours], [row[:-1] for row in theirs], rtol=relative)
    norms, expected = ([row[-1] for row in rows] for rows in (ours, theirs))
    np.testing.assert_allclose(norms, expected, rtol=of_norms or relative)
    for mine, other in zip(records(run, "evaluation"), records(twin, "evaluation"), strict=True):
        assert mine.pop("loss_nats") == pytest.approx(other.pop("loss_nats"), rel=relative)
        for key in ("step", "tokens_seen", "num_tokens", "num_bytes"):
            assert mine[key] == other[key]


def copied(run: Path, folder: Path) -> Path:
    return shutil.copytree(run, folder / "copied")


def test_two_processes_have_the_losses_of_one(both, alone):
    assert_close(both[0], alone)


def test_both_have_the_same_weights_and_moments(both):
    first, second = both[1]
    assert (first["code"], second["code"]) == (0, 0)
    assert first["weights"] == second["weights"]
    assert first["state"] == second["state"]


def test_the_first_process_alone_writes_and_speaks(both):
    run, (first, second) = both
    assert second["records"] == 0
    assert first["records"] == len((run / "log.jsonl").read_text().splitlines())
    assert [r["num_processes"] for r in records(run, "start")] == [2]
    assert len(records(run, "train")) == STEPS


def test_the_first_process_prepares_before_the_others(both):
    assert Path(f"{both[0]}.turns").read_text().split()[:2] == ["0", "1"]


def test_the_same_two_processes_give_the_same_bytes(both, pair, tmp_path):
    pair(tmp_path / "run")
    assert files_sha256(tmp_path / "run", STEPS) == files_sha256(both[0], STEPS)
    assert trace(tmp_path / "run") == trace(both[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "relative"),
    [
        ({"optimizer": "muon", "average_decay": 0.9, "fake_quantize": "int8", "mask_across_documents": True}, 1e-2),
        ({"precision": "float16", "global_batch_tokens": 32, "tokens": 15 * 32}, 1e-2),
    ],
    ids=["muon, averaged, INT8", "float16, one sequence a step"],
)
def test_every_kind_of_step_is_shared(recipe, tiny_shards, pair, tmp_path, changes, relative):
    first, second = pair(tmp_path / "both", train=changes)
    assert first["weights"] == second["weights"]
    assert first["state"] == second["state"]
    twin = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, **changes))
    # Where weights are rounded to INT8, a last bit tips some over: on one kind of CPU a norm then differs by 1.15 %.
    of_norms = 2e-2 if "fake_quantize" in changes else relative
    alone = train(twin, tiny_shards, tmp_path / "alone")
    assert_close(tmp_path / "both", alone, relative=relative, of_norms=of_norms)


def test_what_teachers_expect_is_asked_by_both_and_read_by_both(recipe, tiny_shards, alone, pair, tmp_path):
    changes = {"teachers": (str(alone),), "expectations_kept": 16, "precision": "float32"}
    first, second = pair(tmp_path / "both", train=changes)
    assert first["weights"] == second["weights"]
    twin = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, **changes))
    assert_close(tmp_path / "both", train(twin, tiny_shards, tmp_path / "alone"))
    assert not (tmp_path / "both" / "expectations").exists()


def test_a_stop_asked_of_one_stops_both_at_the_same_step(stopped):
    run, answers = stopped
    assert [answer["code"] for answer in answers] == [InterruptedRunError.exit_code] * 2
    assert sorted(answer["echoed"] for answer in answers) == [False, True]
    assert any(f"stopped at step 5 of {STEPS}, saved in {run}" in answer["message"] for answer in answers)
    assert json.loads((run / "latest.json").read_text()) == {"step": 5}


def test_resumed_by_as_many_processes_it_has_the_bits_of_an_uninterrupted_run(stopped, both, pair, tmp_path):
    run = copied(stopped[0], tmp_path)
    first, second = pair(run)
    assert files_sha256(run, STEPS) == files_sha256(both[0], STEPS)
    assert trace(run) == trace(both[0])
    assert first["weights"] == second["weights"] == both[1][0]["weights"]


@pytest.mark.slow
def test_two_processes_stop_and_one_goes_on(stopped, alone, recipe, tiny_shards, tmp_path):
    assert_close(train(recipe, tiny_shards, copied(stopped[0], tmp_path)), alone)


def test_one_process_stops_and_two_go_on(alone, pair, recipe, tiny_shards, tmp_path):
    def stop(record: dict) -> None:
        if record["kind"] == "train" and record["step"] == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRunError):
        train(recipe, tiny_shards, tmp_path / "run", observer=stop)
    first, second = pair(tmp_path / "run")
    assert first["weights"] == second["weights"]
    assert_close(tmp_path / "run", alone)


# ----------------------------------------------------------------------------------------------- they fail together


def told(answers: list[dict], code: int = 3) -> str:
    """Return what the processes said, which is said once."""
    assert [answer["code"] for answer in answers] == [code] * 2
    (message,) = (answer["message"] for answer in answers if not answer["echoed"])
    return message


def test_what_both_refuse_is_said_once(both, pair):
    assert "already exists" in told(pair(both[0], resume="never"))
    assert "was started with another recipe" in told(pair(both[0], train={"lr": 1.0}))


def test_what_the_first_process_refuses_ends_both(pair, tmp_path):
    with locked_directory(tmp_path / "run"):
        assert "is in use by another process" in told(pair(tmp_path / "run"))


def test_what_is_no_number_in_one_process_stops_both(pair, tmp_path):
    message = told(pair(tmp_path / "run", rank=1, step=5, then="nan"))
    assert message.startswith("at step 6 the loss is nan")
    assert json.loads((tmp_path / "run" / "latest.json").read_text()) == {"step": 4}


def test_weights_that_drifted_apart_are_never_saved(pair, tmp_path):
    message = told(pair(tmp_path / "run", rank=1, step=4, then="spoil"))
    assert "have not the same weights any more" in message
    assert json.loads((tmp_path / "run" / "latest.json").read_text()) == {"step": 3}


def test_optimizers_that_round_otherwise_leave_the_weights_of_the_first(pair, both, tmp_path):
    answers = pair(tmp_path / "run", rounds=1)
    assert [answer["weights"] for answer in answers] == [answer["weights"] for answer in both[1]]


def test_a_recipe_of_its_own_is_refused(pair, tmp_path):
    message = told(pair(tmp_path / "run", train={"seed": 3}, other={"seed": 4}))
    assert "have not the same recipe" in message


@pytest.mark.slow
def test_a_process_that_dies_or_breaks_ends_the_other(new_pair, tmp_path):
    pair = new_pair()
    survivor, broken = pair(tmp_path / "broken", rank=1, step=4, then="fail")
    assert (broken["code"], broken["message"], broken["echoed"]) == (1, "a bug", False)
    assert (survivor["code"], survivor["echoed"]) == (3, True)
    survivor, dead = pair(tmp_path / "dead", rank=1, step=4, then="die")
    assert dead == {}
    assert (survivor["code"], survivor["echoed"]) == (3, False)
    assert "another process of this run has ended or does not answer" in survivor["message"]
    assert pair.close() == [0, DIED]


@pytest.mark.slow
def test_torchrun_trains_from_text_to_a_model(tmp_path, prose_documents):
    write_file(tmp_path / "text.jsonl", "\n".join(json.dumps({"text": text}) for text in prose_documents(60)))
    settings = ["text.source=text.jsonl", "text.validation=take:5", "text.min_characters=1", "tokenizer.vocab_size=300"]
    settings += ["train.tokens=20480", "train.global_batch_tokens=1024", "train.warmup_steps=2", "train.eval_every=8"]
    sets = [word for setting in settings for word in ("--set", setting)]
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    environ = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*start, "stentor", "train", "tiny", *sets, "--data", "data", "--run", "run", *words]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=200)

    planned = run("--dry-run", "--json")
    assert json.loads(planned.stdout)["num_processes"] == 2, planned.stderr
    assert not (tmp_path / "run").exists()
    trained = run("--json")
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["run"] == "run"
    assert len(records(tmp_path / "run", "train")) == 20
    assert trained.stderr.count("learning a vocabulary") == 1
    again = run("--resume", "never")
    assert again.returncode != 0
    assert again.stderr.count("error: the run run already exists") == 1
