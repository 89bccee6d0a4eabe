"""The whole line with a TokenMonster vocabulary: prepare, train, evaluate, generate, export, as with any other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from stentor.artifacts import write_file
from stentor.evaluate.text import evaluate
from stentor.export import source
from stentor.model.folder import read_model_folder, resolve_model
from stentor.shards.build import open_shards
from stentor.tokenizer.tokenmonster.vocab_file import write_vocab


@dataclass(frozen=True)
class Monster:
    """A world whose recipe names a vocabulary, and what the commands on it are given."""

    world: object
    vocab: Path

    @property
    def common(self) -> list[object]:
        return [self.world.recipe, "--data", self.world.data, "--set", f"tokenizer.path={self.vocab}"]  # type: ignore[attr-defined]


@pytest.fixture
def monster(new_world, tiny_tokenmonster) -> Monster:
    vocab = new_world.folder / "small.vocab"
    write_vocab(vocab, tiny_tokenmonster.vocab)
    odd = ["A caf\u00e9 by the river, and the moon.", "One\u0000two of them, and the \u0001moon is red."]
    lines = [json.dumps({"text": text * 3}) for text in odd]
    write_file(new_world.text, new_world.text.read_text() + "\n".join(lines) + "\n")
    return Monster(new_world, vocab)


@pytest.fixture(autouse=True)
def few_strings(monkeypatch):
    monkeypatch.setattr(source, "NUM_STRINGS", 100)


@pytest.mark.slow
def test_from_text_to_files_that_open_elsewhere(cli, monster, tiny_tokenmonster, tmp_path):
    world = monster.world
    prepared = cli("prepare", *monster.common, "--json").value
    assert prepared["vocab_size"] == tiny_tokenmonster.vocab_size
    assert prepared["num_lossy_documents"] >= 1  # cleaning drops control characters, decomposed letters stay
    shards = open_shards(world.data / "shards")
    assert prepared["train_bytes"] == shards.train.num_text_bytes

    trained = cli("train", *monster.common, "--run", world.run, "--json").value
    assert trained["bits_per_byte"] > 0
    model = resolve_model(world.run)
    assert (model / "tokenmonster.vocab").is_file()
    assert not (model / "tokenizer.json").exists()
    records = map(json.loads, (world.run / "log.jsonl").read_text().splitlines())
    evaluation = next(record for record in records if record["kind"] == "evaluation")
    held_out = world.data / "corpus" / "validation.jsonl.zst"
    measured = cli("evaluate", world.run, held_out, "--json").value
    for name in ("num_tokens", "num_bytes", "num_lossy_documents", "num_lost_bytes"):
        assert measured[name] == evaluation[name]
    assert measured["num_bytes"] == shards.validation.num_text_bytes
    assert measured["unigram_bits_per_byte"] > 0

    text = cli("generate", "The OLD man", "--model", world.run, "--seed", 1)
    assert text.code == 0
    again = cli("generate", "The OLD man", "--model", world.run, "--seed", 1, "--json").value
    assert again["completions"][0]["text"] + "\n" == text.out

    exported = cli("export", world.run, tmp_path / "hf", "--to", "huggingface", "--json").value
    assert exported["verified"]
    gguf = cli("export", world.run, tmp_path / "m.gguf", "--to", "gguf", "--compare", world.text, "--json").value
    assert gguf["verified"]
    assert gguf["mapped_tokenizer"]["kind"] == "rwkv"
    same = cli("evaluate", tmp_path / "hf", held_out, "--json").value
    assert same["bits_per_byte"] == pytest.approx(measured["bits_per_byte"], rel=1e-6)


@pytest.mark.slow
def test_what_does_not_come_back_is_said(cli, monster, tmp_path):
    assert "documents come back as other bytes" in cli("prepare", *monster.common).out
    assert cli("train", *monster.common, "--run", monster.world.run).code == 0
    write_file(tmp_path / "odd.txt", "caf\u00e9\x00\x01 and of it")
    out = cli("evaluate", monster.world.run, tmp_path / "odd.txt", "--no-baselines").out
    assert "1 documents come back as other bytes" in out
    assert "2 bytes have no token and vanish" in out
    write_file(tmp_path / "plain.txt", "and of it")
    assert "comes back exactly" in cli("evaluate", monster.world.run, tmp_path / "plain.txt", "--no-baselines").out
    value = cli("evaluate", monster.world.run, tmp_path / "odd.txt", "--json").value
    assert value["num_bytes"] == len("caf\u00e9\x00\x01 and of it".encode())


@pytest.mark.slow
def test_a_model_and_a_vocabulary_that_do_not_belong_together_are_refused(cli, monster):
    small = ["--set", "model.vocab_size=128"]
    cli("train", *monster.common, "--run", monster.world.run, *small).fails(3, "the tokenizer has 271 tokens")
    assert cli("train", *monster.common, "--run", monster.world.run).code == 0
    folder = resolve_model(monster.world.run)
    data = bytearray((folder / "tokenmonster.vocab").read_bytes())
    data[4] = 1  # another "reserve": still a sound vocabulary
    (folder / "tokenmonster.vocab").write_bytes(data)
    cli("generate", "The", "--model", folder).fails(3, "does not match its checksum")


def test_the_same_data_are_kept_and_those_of_another_vocabulary_refused(cli, monster, tiny_tokenizer, tmp_path):
    first = cli("prepare", *monster.common)
    assert cli("prepare", *monster.common).out == first.out
    tiny_tokenizer.save(tmp_path / "bpe")
    other = [*monster.common[:3], "--set", f"tokenizer.path={tmp_path / 'bpe'}"]
    cli("prepare", *other).fails(3, "made with other settings")


def test_a_vocabulary_may_be_named(cli, monster, monkeypatch):
    asked = []

    def download(repository, path):
        asked.append((repository, path))
        return str(monster.vocab)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    named = [*monster.common[:3], "--set", "tokenizer.path=tokenmonster:small-v1"]
    assert cli("prepare", *named, "--json").value["vocab_size"] == 271
    assert asked == [("alasdairforsythe/tokenmonster", "vocabs/small-v1.vocab")]


@pytest.mark.slow
def test_a_published_vocabulary_from_text_to_generation(cli, new_world, shared, tmp_path):
    vocab = shared / "tokenmonster" / "vocabs" / "english-8000-balanced-v1.vocab"
    common = [new_world.recipe, "--data", new_world.data, "--set", f"tokenizer.path={vocab}"]
    common += ["--set", "model.vocab_size=8064", "--set", f"text.source={shared / 'corpus' / 'tiny.jsonl.zst'}"]
    prepared = cli("prepare", *common, "--json").value
    assert prepared["vocab_size"] == 8003
    assert prepared["bytes_per_token"] > 4
    assert cli("train", *common, "--run", new_world.run).code == 0
    folder = read_model_folder(new_world.run)
    tokenizer = folder.require_tokenizer()
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id) == (8000, 8001, 8002)
    held_out = new_world.data / "corpus" / "validation.jsonl.zst"
    value = cli("evaluate", new_world.run, held_out, "--no-baselines", "--json").value
    assert value["num_bytes"] == prepared["validation_bytes"]
    generated = cli("generate", "The HISTORY of", "--model", new_world.run, "--json").value
    assert generated["completions"][0]["num_prompt_tokens"] == len(tokenizer.encode("The HISTORY of"))
    report = cli("export", new_world.run, tmp_path / "m.gguf", "--to", "gguf", "--compare", held_out, "--json").value
    assert 0.5 < report["mapped_tokenizer"]["raw"]["similarity"] < report["mapped_tokenizer"]["prepared"]["similarity"]
    assert evaluate(new_world.run, ["The people"]).num_bytes == 10
