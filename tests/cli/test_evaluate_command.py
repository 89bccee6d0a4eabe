"""stentor evaluate: numbers under their documented names, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from stentor.artifacts import write_file
from stentor.evaluate.baselines import baselines
from stentor.evaluate.text import encode_documents, evaluate
from stentor.model.folder import read_model_folder, resolve_model
from stentor.model.measure import measure
from stentor.model.scorer import TorchScorer


def test_json_holds_the_evaluation_and_the_baselines(cli, world):
    value = cli("evaluate", world.run, world.text, "--json").value
    texts = [json.loads(line)["text"] for line in world.text.read_text().splitlines()]
    tokenizer = read_model_folder(world.run).require_tokenizer()
    assert value == {
        **evaluate(world.run, texts).to_dict(),
        **baselines(texts, tokenizer).to_dict(),
        "model": str(resolve_model(world.run)),
        "text": str(world.text),
        "dtype": "float32",
        "vocab_size": 320,
    }
    assert {"loss_nats", "perplexity", "bits_per_byte", "num_tokens", "num_bytes"} <= value.keys()
    assert value["num_bytes"] == sum(len(text.encode()) for text in texts)


@pytest.mark.slow
def test_the_log_and_the_evaluation_of_the_held_out_file_agree(cli, world):
    held_out = world.data / "corpus" / "validation.jsonl.zst"
    value = cli("evaluate", world.run, held_out, "--no-baselines", "--json").value
    logged = cli("train", world.recipe, "--data", world.data, "--run", world.run, "--json").value
    for name in ("num_tokens", "num_bytes"):
        assert value[name] == logged[name]
    assert value["bits_per_byte"] == pytest.approx(logged["bits_per_byte"], rel=5e-3)  # trained in bfloat16, maybe


def test_text_names_the_units(cli, world):
    outcome = cli("evaluate", world.run, world.text)
    assert outcome.code == 0
    for words in ("nats/token", "perplexity", "bits per byte", "xz -9e", "gzip -9", "unigram", "320-token vocabulary"):
        assert words in outcome.out
    without = cli("evaluate", world.run, world.text, "--no-baselines")
    assert "gzip" not in without.out
    assert "bits per byte" in without.out


def test_a_checkpoint_and_its_run_give_the_same_numbers(cli, world):
    by_run, by_folder = (
        cli("evaluate", model, world.text, "--no-baselines", "--json").value
        for model in (world.run, resolve_model(world.run))
    )
    assert by_run == by_folder


@pytest.mark.parametrize("text", ["a.txt", "folder", "folder/*.txt"])
def test_any_source_is_a_text(cli, world, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "folder/b.txt", "folder/c.txt"):
        write_file(tmp_path / name, "A cat saw the moon.")
    value = cli("evaluate", world.run, text, "--no-baselines", "--json").value
    assert value["num_bytes"] == 19 * (1 if text == "a.txt" else 2)


@pytest.mark.parametrize(
    ("model", "text", "said"),
    [
        ("nowhere", "TEXT", ["there is no model nowhere", "pass a model folder"]),
        ("RUN", "nowhere.txt", ["no such file or folder: nowhere.txt"]),
        ("RUN", "empty.txt", ["there is no text to evaluate on"]),
        ("RUN", "blank.jsonl", ["there is no text to evaluate on"]),
        ("RUN", "picture.png", ["cannot tell how to read picture.png"]),
        ("empty", "TEXT", ["empty"]),
    ],
)
def test_what_cannot_be_measured_is_refused(cli, world, tmp_path, monkeypatch, model, text, said):
    monkeypatch.chdir(tmp_path)
    for name in ("empty.txt", "picture.png"):
        write_file(tmp_path / name, "")
    write_file(tmp_path / "blank.jsonl", '{"text": ""}\n')
    (tmp_path / "empty").mkdir()
    names = {"RUN": world.run, "TEXT": world.text}
    cli("evaluate", names.get(model, model), names.get(text, text)).fails(3, *said)


def test_a_model_without_its_tokenizer_is_refused(cli, world, tmp_path):
    folder = resolve_model(world.run)
    for name in ("config.json", "model.safetensors"):
        write_file(tmp_path / name, (folder / name).read_bytes())
    cli("evaluate", tmp_path, world.text).fails(3, "has no tokenizer.json")


def test_damaged_weights_are_refused(cli, world, tmp_path):
    folder = resolve_model(world.run)
    for path in folder.iterdir():
        if path.name != "manifest.json":
            write_file(tmp_path / path.name, path.read_bytes())
    write_file(tmp_path / "model.safetensors", (folder / "model.safetensors").read_bytes()[:-5])
    cli("evaluate", tmp_path, world.text).fails(3, "model.safetensors is damaged")


def test_a_text_is_measured_with_the_base_install_alone(cli, world):
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'gguf', 'huggingface_hub', 'datasets', 'pyarrow', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "from stentor.cli.main import main; main()"
    )
    arguments = ["evaluate", str(world.run), str(world.text), "--no-baselines", "--json"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == cli(*arguments).value


def test_the_numbers_are_those_of_torch(cli, world):
    folder = read_model_folder(world.run)
    tokenizer = folder.require_tokenizer()
    texts = [json.loads(line)["text"] for line in world.text.read_text().splitlines()]
    encoded = encode_documents(tokenizer, texts)
    theirs = measure(
        TorchScorer(folder.build()), encoded.token_ids, num_bytes=encoded.num_bytes, eos_token_id=tokenizer.eos_token_id
    )
    for threads in (1, 3):
        ours = cli("evaluate", world.run, world.text, "--no-baselines", "--threads", threads, "--json").value
        assert ours["bits_per_byte"] == pytest.approx(theirs.bits_per_byte, abs=1e-5)


def test_rounded_weights_are_measured_on_request(cli, world):
    exact, rounded = (
        cli("evaluate", world.run, world.text, "--no-baselines", "--dtype", dtype, "--json").value
        for dtype in ("float32", "int8")
    )
    assert rounded["bits_per_byte"] != exact["bits_per_byte"]
    assert rounded["bits_per_byte"] == pytest.approx(exact["bits_per_byte"], rel=0.02)
    assert (exact["dtype"], rounded["dtype"]) == ("float32", "int8")


@pytest.mark.parametrize("text", ["./a.txt", "folder/../*.txt", "a.txt"])
def test_answers_that_are_collected_can_be_told_apart(cli, world, tmp_path, monkeypatch, text):
    """The text is named as it was given; the model by the checkpoint that was read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    write_file(tmp_path / "a.txt", "A cat saw the moon.")
    value = cli("evaluate", world.run, text, "--no-baselines", "--json").value
    assert (value["text"], value["model"]) == (text, str(resolve_model(world.run)))
