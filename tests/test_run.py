"""`stentor.train` and `stentor.evaluate`: functions and stages under one name, whatever is imported first."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import stentor
from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.prepare import default_data_dir
from stentor.run import default_run_dir, train

BOTH_WAYS = """
import sys, stentor
exec(sys.argv[1])
assert callable(stentor.train) and callable(stentor.evaluate)
assert stentor.train.__name__ == "stentor.train"
import stentor.train.loop as loop
from stentor.evaluate import text
assert stentor.evaluate.text is text and stentor.train.loop is loop
"""


@pytest.fixture
def recipe_file(tmp_path, prose_documents):
    lines = "\n".join(json.dumps({"text": text}) for text in prose_documents(60))
    write_file(tmp_path / "text.jsonl", lines)
    recipe = f"""
name = "mine"
[text]
source = {json.dumps(str(tmp_path / "text.jsonl"))}
validation = "take:5"
min_characters = 1
[tokenizer]
vocab_size = 300
[model]
preset = "tiny"
vocab_size = 384
hidden_size = 32
num_hidden_layers = 1
max_position_embeddings = 32
[train]
tokens = 256
global_batch_tokens = 128
"""
    write_file(tmp_path / "mine.toml", recipe)
    return tmp_path / "mine.toml"


def test_train_takes_a_recipe_by_path_and_evaluate_its_run(recipe_file, tmp_path):
    run_dir = stentor.train(recipe_file, run_dir=tmp_path / "run", data_dir=tmp_path / "data")
    assert run_dir == tmp_path / "run"
    assert (tmp_path / "data" / "shards").is_dir()
    result = stentor.evaluate(run_dir, ["The people who were there."])
    assert 0 < result.bits_per_byte < 30
    assert stentor.train(recipe_file, run_dir=str(run_dir), data_dir=str(tmp_path / "data")) == run_dir


def test_folders_are_named_after_the_recipe(recipe_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = stentor.Recipe.load(recipe_file)
    train(recipe)
    assert (tmp_path / default_run_dir(recipe) / "best.json").is_file()
    assert (tmp_path / default_data_dir(recipe) / "corpus").is_dir()


def test_an_unknown_recipe_is_refused():
    with pytest.raises(UserError, match="no recipe named 'tinny'"):
        train("tinny")


@pytest.mark.parametrize(
    "first", ["stentor.train; stentor.evaluate", "import stentor.train.loop, stentor.evaluate.text"]
)
def test_a_stage_is_callable_whatever_is_imported_first(first):
    done = subprocess.run(
        [sys.executable, "-c", BOTH_WAYS, first], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
