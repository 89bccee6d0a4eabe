"""stentor contamination and stentor memorization: numbers for people and as JSON, and what is refused."""

from __future__ import annotations

import json

import pytest

from stentor.artifacts import write_file


@pytest.fixture
def texts(world, tmp_path):
    """Return the world's text with a document that is nowhere else."""
    lines = world.text.read_text().splitlines()[:3]
    own = json.dumps({"text": " ".join(f"word{n}" for n in range(20)), "id": "own"})
    write_file(tmp_path / "held-out.jsonl", "\n".join([*lines, own]) + "\n")
    return tmp_path / "held-out.jsonl"


def test_overlap_is_found_and_told_apart(cli, world, texts):
    value = cli("contamination", texts, world.text, "--model", world.run, "--json").value
    assert (value["num_documents"], value["num_overlapping_documents"]) == (4, 3)
    assert value["documents"][3] == {"document": "own", "num_ngrams": 8, "share": 0.0}
    assert value["losses"]["clean"]["num_documents"] == 1
    assert value["losses"]["overlapping"]["bits_per_byte"] < value["losses"]["clean"]["bits_per_byte"]
    assert (value["text"], value["training"], value["model"]) == (str(texts), str(world.text), str(world.run))
    assert value["num_training_bytes"] == sum(
        len(json.loads(line)["text"]) for line in world.text.read_text().splitlines()
    )


def test_overlap_is_printed(cli, world, texts):
    out = cli("contamination", texts, world.text, "--model", world.run).out
    for words in ("13 words in a row", "4, of which 3 overlap", "bits per byte, clean", "100.0%", "142 documents"):
        assert words in out
    assert "bits per byte" not in cli("contamination", texts, world.text).out


def test_without_overlap_there_is_nothing_to_list(cli, world, texts, tmp_path):
    write_file(tmp_path / "other.txt", "something else altogether")
    out = cli("contamination", texts, tmp_path / "other.txt", "--model", world.run).out
    assert "4, of which 0 overlap" in out
    assert "bits per byte, overlapping" in out


@pytest.mark.parametrize("place", [0, 1])
def test_missing_texts_are_refused(cli, world, place):
    arguments = [world.text, world.text]
    arguments[place] = "nowhere.txt"
    cli("contamination", *arguments).fails(3, "no such file or folder: nowhere.txt")


def test_a_missing_model_is_refused(cli, world):
    cli("contamination", world.text, world.text, "--model", "nowhere").fails(3, "there is no model nowhere")


def test_runs_by_heart_are_counted(cli, world):
    options = ("--samples", 20, "--prompt-tokens", 8)
    value = cli("memorization", world.run, world.text, *options, "--json").value
    assert (value["num_samples"], value["num_prompt_tokens"], value["num_documents"]) == (20, 8, 142)
    assert value["longest_tokens"] == max(run["num_tokens"] for run in value["runs"])
    assert value["training"] == str(world.text)
    again = cli("memorization", world.run, world.text, *options, "--json").value
    other = cli("memorization", world.run, world.text, *options, "--seed", 1, "--json").value
    assert value == again
    assert value["runs"] != other["runs"]
    out = cli("memorization", world.run, world.text, *options).out
    for words in ("20 of 142 documents", "runs of at least", "tokens on average", "which says"):
        assert words in out


def test_wrong_settings_are_refused(cli, world):
    cli("memorization", world.run, world.text, "--samples", 0).fails(3, "0 documents cannot be sampled")
    cli("memorization", world.run, world.text, "--prompt-tokens", 31).fails(3, "use 1 to 30 tokens")
    cli("memorization", world.run, "nowhere.txt").fails(3, "no such file or folder: nowhere.txt")
