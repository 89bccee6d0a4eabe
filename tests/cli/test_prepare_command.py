"""stentor prepare: what it says, what it refuses, and that it leaves nothing half-made."""

from __future__ import annotations

import json

import pytest

from stentor.artifacts import verify_directory, write_file
from stentor.shards.build import open_shards


def test_json_names_what_was_made(cli, world):
    value = cli("prepare", world.recipe, "--data", world.data, "--json").value
    shards = open_shards(world.data / "shards")
    assert value == {
        "data": str(world.data),
        "corpus_sha256": verify_directory(world.data / "corpus").details["sha256"],
        "dropped_documents": {},
        "vocab_size": 320,
        "train_documents": 133,
        "train_tokens": shards.train.num_tokens,
        "train_bytes": shards.train.num_text_bytes,
        "bytes_per_token": shards.train.num_text_bytes / shards.train.num_tokens,
        "validation_documents": 9,
        "validation_tokens": shards.validation.num_tokens,
        "validation_bytes": shards.validation.num_text_bytes,
        "num_lossy_documents": 0,
        "num_lost_bytes": 0,
    }


def test_a_fresh_world_is_prepared_and_the_talk_is_on_stderr(cli, new_world):
    outcome = cli("prepare", new_world.recipe, "--data", new_world.data)
    assert outcome.code == 0
    assert "133 documents" in outcome.out
    assert "320 tokens" in outcome.out
    assert "reading and cleaning text\nlearning a vocabulary\npacking token ids\n" in outcome.err
    for folder in ("corpus", "tokenizer", "shards"):
        verify_directory(new_world.data / folder, kind=folder)
    again = cli("prepare", new_world.recipe, "--data", new_world.data)
    assert (again.out, again.err) == (outcome.out, "")


def test_data_lies_in_a_folder_named_after_the_recipe(cli, new_world, monkeypatch):
    monkeypatch.chdir(new_world.folder)
    assert cli("prepare", new_world.recipe, "--json").value["data"] == "data/tiny-test"
    assert (new_world.folder / "data" / "tiny-test" / "shards" / "train.bin").exists()


def test_other_settings_are_refused_and_forced(cli, new_world):
    other = ["--set", "text.min_characters=30"]
    assert cli("prepare", new_world.recipe, "--data", new_world.data).code == 0
    cli("prepare", new_world.recipe, "--data", new_world.data, *other).fails(3, "made with other settings", "--force")
    assert cli("prepare", new_world.recipe, "--data", new_world.data, *other, "--force").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stentor2-12n"], ["no recipe named 'stentor2-12n'", "did you mean 'stentor2-12m'?"]),
        (["nowhere.toml"], ["no recipe file nowhere.toml"]),
        (["tiny", "--set", "text.sorce=a.txt"], ["unknown key text.sorce", "did you mean 'source'?"]),
        (["tiny", "--set", "txet.source=a.txt"], ["unknown key 'txet'", "did you mean 'text'?"]),
        (["tiny", "--set", "tokenizer.vocab_size=many"], ["tokenizer.vocab_size is 'many', not a whole number"]),
        (["tiny", "--set", "tokenizer.vocab_size"], ["is not KEY=VALUE"]),
        (["tiny", "--set", "text.source=nowhere.txt"], ["no such file or folder: nowhere.txt", "check the path"]),
        (["tiny", "--set", "text.source=builtin:doc"], ["no built-in source", "did you mean 'docs'?"]),
        (["tiny", "--set", "tokenizer.path=nowhere", "--set", "text.source=SOURCE"], ["no tokenizer at nowhere"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_named_with_the_nearest_right_name(cli, world, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    cli("prepare", *(argument.replace("SOURCE", str(world.text)) for argument in arguments)).fails(3, *said)
    assert not list(tmp_path.glob("**/shards"))


@pytest.mark.parametrize("content", ["", "\n\n", '{"text": ""}\n', '{"text": "short"}\n'])
def test_an_empty_corpus_is_refused_and_leaves_nothing(cli, new_world, content):
    write_file(new_world.text, content)
    cli("prepare", new_world.recipe, "--data", new_world.data).fails(3, "no training document is left", "fix: ")
    assert list(new_world.data.iterdir()) == []


def test_a_corpus_too_small_for_its_vocabulary_is_refused(cli, new_world):
    write_file(new_world.text, "".join(json.dumps({"text": f"number {word} " * 9}) + "\n" for word in range(12)))
    cli("prepare", new_world.recipe, "--data", new_world.data).fails(3, "the text gives only", "320 were asked for")
    assert [path.name for path in new_world.data.iterdir()] == ["corpus"]


def test_text_that_is_no_utf8_is_counted_not_fatal(cli, new_world):
    lines = new_world.text.read_bytes().splitlines()
    write_file(new_world.text, b"\n".join([*lines, b'{"text": "caf\xe9 ' + b"and more " * 9 + b'"}', b"{not json"]))
    value = cli("prepare", new_world.recipe, "--data", new_world.data, "--json").value
    assert value["train_documents"] + sum(value["dropped_documents"].values()) >= 134


def test_a_folder_that_is_not_ours_is_kept(cli, new_world):
    write_file(new_world.data / "corpus" / "thesis.doc", "precious")
    for flags in ([], ["--force"]):
        cli("prepare", new_world.recipe, "--data", new_world.data, *flags).fails(3, str(new_world.data / "corpus"))
    assert (new_world.data / "corpus" / "thesis.doc").read_text() == "precious"


def test_a_place_that_cannot_be_written_is_named(cli, new_world):
    write_file(new_world.folder / "file", "")
    cli("prepare", new_world.recipe, "--data", new_world.folder / "file" / "data").fails(3, "cannot be used")
