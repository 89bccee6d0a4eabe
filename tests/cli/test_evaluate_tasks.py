"""stentor evaluate with tasks and parts, and stentor compare with models: what is printed, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stentor.artifacts import write_file
from stentor.evaluate.blimp import blimp, read_pairs
from stentor.evaluate.text import evaluate
from stentor.runtime.engine import load

PAIR = {
    "sentence_good": "A cat saw the moon.",
    "sentence_bad": "A cat moon saw the.",
    "field": "syntax",
    "linguistics_term": "word_order",
    "UID": "order",
}


@pytest.fixture
def tasks(tmp_path) -> dict[str, Path]:
    """Return a file of each kind of task."""
    records = {
        "blimp": [PAIR, {**PAIR, "sentence_bad": "Cat a saw the moon.", "UID": "order_two"}],
        "choice": [{"query": "A cat saw", "choices": ["the moon", "a long road"], "gold": 0}],
        "lambada": [{"context": "A cat saw the", "continuation": "moon"}],
    }
    for name, lines in records.items():
        write_file(tmp_path / f"{name}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    return {name: tmp_path / f"{name}.jsonl" for name in records}


def as_options(tasks: dict[str, Path]) -> list[str]:
    return [word for name, path in tasks.items() for word in ("--task", f"{name}={path}")]


def test_tasks_need_no_text_and_are_listed_in_order(cli, world, tasks):
    value = cli("evaluate", world.run, *as_options(tasks), "--json").value
    assert [task["task"] for task in value["tasks"]] == ["blimp", "choice", "lambada"]
    assert value["dtype"] == "float32"
    assert "bits_per_byte" not in value
    assert value["text"] is None
    expected = blimp(load(world.run, dtype="float32"), read_pairs(tasks["blimp"])).to_dict()
    assert {key: value["tasks"][0][key] for key in expected} == json.loads(json.dumps(expected))


def test_tables_say_what_was_measured_and_how(cli, world, tasks):
    outcome = cli("evaluate", world.run, *as_options(tasks))
    assert outcome.code == 0
    for words in (
        *(
            "mean over 2 paradigms (all of BLiMP has 67), 2 pairs",
            "an EOS, then the sentence",
            "word_order",
            "order_two",
        ),
        *("a guess is right 50.00%", "... per byte", "95%, Wilson", "word perplexity", "bootstrap"),
    ):
        assert words in outcome.out
    spaced = cli("evaluate", world.run, "--task", f"blimp={tasks['blimp']}", "--space", "--start", "bos")
    assert "a BOS, a space, then the sentence" in spaced.out


def test_text_and_tasks_together(cli, world, tasks):
    value = cli("evaluate", world.run, world.text, "--no-baselines", *as_options(tasks), "--json").value
    texts = [json.loads(line)["text"] for line in world.text.read_text().splitlines()]
    assert value["bits_per_byte"] == pytest.approx(evaluate(world.run, texts).bits_per_byte)
    assert len(value["tasks"]) == 3


def test_parts_are_in_the_json(cli, world):
    options = ("--no-baselines", "--by", "document", "--by", "position", "--stride", "16", "--json")
    value = cli("evaluate", world.run, world.text, *options).value
    lines = world.text.read_text().splitlines()
    assert [entry["document"] for entry in value["documents"]] == [f"text.jsonl:{n}" for n in range(1, len(lines) + 1)]
    assert sum(entry["num_tokens"] for entry in value["documents"]) == value["num_tokens"]
    assert sum(entry["num_tokens"] for entry in value["positions"]) == value["num_tokens"]
    assert value["positions"][0]["positions"] == "0"
    assert value["stride"] == 16
    plain = cli("evaluate", world.run, world.text, "--no-baselines", "--json").value
    assert value["bits_per_byte"] < plain["bits_per_byte"]
    assert not {"documents", "positions", "stride", "tasks"} & plain.keys()


def test_parts_are_printed(cli, world, tmp_path):
    write_file(tmp_path / "x.jsonl", '{"text": ""}\n{"text": "A cat saw the moon."}\n')
    outcome = cli("evaluate", world.run, tmp_path / "x.jsonl", "--by", "document", "--by", "position", "--no-baselines")
    assert "2, 1 of them empty; bits per byte of each:" in outcome.out
    assert "position in the window" in outcome.out
    assert "which do not overlap" in outcome.out
    assert "16 apart" in cli("evaluate", world.run, world.text, "--stride", 16, "--no-baselines").out


def test_nothing_to_evaluate_on_is_refused(cli, world):
    cli("evaluate", world.run).fails(2, "there is nothing to evaluate on", "--task blimp=FOLDER")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--task", "blmip=x"], 3, "there is no task 'blmip'"),
        (["--task", "blimp=nowhere"], 3, "no such file or folder: nowhere"),
        (["--task", "blimp=x", "--start", "eso"], 3, "there is no start 'eso'"),
        (["TEXT", "--by", "word"], 2, "--by has no 'word'"),
        (["TEXT", "--stride", "0"], 3, "the stride is 0, and the model's context 32 tokens"),
        (["TEXT", "--stride", "33"], 3, "use a stride from 1 to 32"),
    ],
)
def test_wrong_options_are_refused(cli, world, options, code, said):
    cli("evaluate", world.run, *[world.text if option == "TEXT" else option for option in options]).fails(code, said)


def test_a_wrong_line_is_named(cli, world, tasks):
    write_file(tasks["choice"], '{"query": "x", "choices": ["a", "b"], "gold": 5}\n')
    cli("evaluate", world.run, "--task", f"choice={tasks['choice']}").fails(
        3, f'the field "gold" in {tasks["choice"]} line 1 is 5, and there are 2 choices'
    )


def test_a_hub_id_without_a_network_is_one_sentence(tasks, tmp_path):
    arguments = ["evaluate", "nobody/no-such-model", "--task", f"blimp={tasks['blimp']}"]
    done = subprocess.run(
        [sys.executable, "-m", "stentor", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "error: the model nobody/no-such-model is neither a folder here nor to be had" in done.stderr
    assert "fix: check the name and the network" in done.stderr
    assert "Traceback" not in done.stderr


# --- models side by side ---


def test_models_are_compared_on_equal_terms(cli, world, tasks):
    value = cli("compare", world.run, world.run, "--text", world.text, *as_options(tasks), "--json").value
    first, second = value["models"]
    assert first == second
    plain = cli("evaluate", world.run, world.text, "--no-baselines", *as_options(tasks), "--json").value
    assert first["bits_per_byte"] == plain["bits_per_byte"]
    assert first["tasks"] == plain["tasks"]
    assert first["num_parameters"] == 32_928
    assert (value["text"], value["notes"]) == (str(world.text), [])


def test_a_comparison_of_models_is_a_table(cli, world, tasks):
    outcome = cli("compare", world.run, world.run, "--text", world.text, *as_options(tasks))
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["run", "(1)", "run", "(2)"] or "run" in lines[0]
    for label in ("parameters", "bytes per token", "bits per byte", "blimp: accuracy", "choice: accuracy per byte"):
        assert any(line.startswith(label) for line in lines), label
    without = cli("compare", world.run, "--task", f"lambada={tasks['lambada']}")
    assert "bits per byte" not in without.out
    assert "lambada: word perplexity" in without.out


def test_models_are_not_drawn_and_texts_are_checked_first(cli, world, tmp_path):
    cli("compare", world.run, "--text", world.text, "--output", tmp_path / "x").fails(
        2, "--output draws runs, not models"
    )
    cli("compare", "nowhere", "--text", "nowhere.txt").fails(3, "no such file or folder: nowhere.txt")
    cli("compare", world.run, "--text", world.text, "--task", "x=y").fails(3, "there is no task 'x'")


def test_a_model_that_is_no_run_is_told_how_models_are_compared(cli, world, tmp_path):
    cli("compare", tmp_path).fails(3, "is no run", "or compare models: --text, --task")
