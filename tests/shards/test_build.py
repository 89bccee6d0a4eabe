import dataclasses
import shutil
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any

import pytest
from sealing import seal_anew

from stentor.artifacts import read_manifest, verify_directory
from stentor.errors import CorruptArtifactError, UserError
from stentor.shards.build import build_shards, open_shards
from stentor.shards.format import HEADER_BYTES, open_shard
from stentor.shards.pack import PackedSequences
from stentor.text.document import Document
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.base import Losses
from stentor.tokenizer.bpe import train_bpe
from stentor.tokenizer.tokenmonster.vocab_file import pack_vocab


@pytest.fixture(scope="module")
def built(corpus, tokenizer, tmp_path_factory):
    return build_shards(corpus, tokenizer, tmp_path_factory.mktemp("built") / "shards")


def texts_of(shard, tokenizer):
    """Read the documents back out of a shard."""
    starts = [*shard.document_starts.tolist(), shard.num_tokens]
    return [tokenizer.decode(shard.token_ids[a:b]) for a, b in pairwise(starts)]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_documents_come_back(built, corpus, split):
    shard = getattr(built, split)
    texts = [document.text for document in corpus(split)]
    assert texts_of(shard, built.tokenizer) == texts
    assert shard.num_documents == len(texts)
    assert shard.num_text_bytes == sum(len(text.encode()) for text in texts)
    shard.verify()


def test_folder_is_sealed_and_complete(built, tokenizer):
    manifest = verify_directory(built.path, kind="shards")
    assert sorted(manifest.files) == ["tokenizer.json", "tokenizer_config.json", "train.bin", "validation.bin"]
    assert manifest.details == {
        "tokenizer_sha256": tokenizer.sha256,
        "vocab_size": tokenizer.vocab_size,
        "train": {
            "num_documents": 40,
            "num_tokens": built.train.num_tokens,
            "num_text_bytes": built.train.num_text_bytes,
            "num_lossy_documents": 0,
            "num_lost_bytes": 0,
        },
        "validation": {
            "num_documents": 5,
            "num_tokens": built.validation.num_tokens,
            "num_text_bytes": built.validation.num_text_bytes,
            "num_lossy_documents": 0,
            "num_lost_bytes": 0,
        },
    }
    assert Tokenizer.load(built.path).sha256 == tokenizer.sha256


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_bytes_do_not_depend_on_the_number_of_workers(built, corpus, tokenizer, tmp_path, num_workers):
    build_shards(corpus, tokenizer, tmp_path / "shards", num_workers=num_workers)
    for name in ("train.bin", "validation.bin", "manifest.json"):
        assert (tmp_path / "shards" / name).read_bytes() == (built.path / name).read_bytes()


def test_bytes_do_not_depend_on_the_size_of_chunks(built, corpus, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("stentor.tokenizer.chunks.chunked.__defaults__", (700,))
    calls = []
    shards = build_shards(corpus, tokenizer, tmp_path / "shards", on_progress=lambda *counts: calls.append(counts))
    assert shards.train.path.read_bytes() == built.train.path.read_bytes()
    assert len(calls) > 10
    assert calls == sorted(calls)
    assert calls[-1] == (45, built.train.num_text_bytes + built.validation.num_text_bytes)


def test_corpus_object_leaves_its_fingerprint(corpus, tokenizer, built, tmp_path):
    @dataclass
    class Corpus:
        details: dict[str, Any] = field(default_factory=lambda: {"sha256": "abc"})

        def documents(self, split: str):
            return corpus(split)

    shards = build_shards(Corpus(), tokenizer, tmp_path / "shards")
    assert read_manifest(shards.path).details["corpus_sha256"] == "abc"
    assert shards.train.path.read_bytes() == built.train.path.read_bytes()


def test_documents_are_read_as_a_stream(tokenizer, tmp_path, monkeypatch):
    """Text is dropped once it is written: no more than one chunk of documents is alive."""
    monkeypatch.setattr("stentor.tokenizer.chunks.chunked.__defaults__", (1000,))
    pulled, seen = [0], []

    def documents(split):
        for number in range(50):
            pulled[0] += 1
            yield Document("moon tide " * 30, str(number), split)

    build_shards(documents, tokenizer, tmp_path / "shards", on_progress=lambda done, _: seen.append(pulled[0] - done))
    assert max(seen) == 0


def test_one_document_larger_than_a_chunk(tokenizer, tmp_path):
    text = "moon tide \u6d77 " * 200_000
    documents = {"train": [Document(text, "1", "x")], "validation": [Document("salt", "2", "x")]}
    shards = build_shards(documents.__getitem__, tokenizer, tmp_path / "shards")
    assert shards.train.num_documents == 1
    assert tokenizer.decode(shards.train.token_ids) == text


@pytest.mark.parametrize("empty", ["train", "validation"])
def test_split_without_documents_is_refused(corpus, tokenizer, tmp_path, empty):
    with pytest.raises(UserError, match=f"the {empty} split has no documents"):
        build_shards(lambda split: [] if split == empty else corpus(split), tokenizer, tmp_path / "shards")
    assert list(tmp_path.iterdir()) == []


def test_failure_in_the_text_leaves_nothing(corpus, tokenizer, tmp_path):
    def documents(split):
        yield from corpus(split)
        raise UserError("the text ended badly", fix="mend it")

    with pytest.raises(UserError, match="ended badly"):
        build_shards(documents, tokenizer, tmp_path / "shards")
    assert list(tmp_path.iterdir()) == []


def test_existing_output_is_kept_unless_asked(built, corpus, tokenizer):
    with pytest.raises(UserError, match="already exists"):
        build_shards(corpus, tokenizer, built.path)
    before = built.train.path.read_bytes()
    assert build_shards(corpus, tokenizer, built.path, replace=True).train.path.read_bytes() == before


def test_large_vocabulary_is_refused_before_anything_is_read(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "vocab_size", 70_000)
    with pytest.raises(UserError, match="70000 tokens"):
        build_shards(lambda split: pytest.fail("read"), tokenizer, tmp_path / "shards")


# --- opening ---


@pytest.fixture
def copied(built, tmp_path):
    return shutil.copytree(built.path, tmp_path / "copy")


def test_opened_is_what_was_built(built):
    opened = open_shards(built.path)
    assert opened.train.header == built.train.header
    assert opened.validation.header == built.validation.header
    assert opened.tokenizer.sha256 == built.tokenizer.sha256


def test_other_folders_are_refused(tokenizer, tmp_path):
    with pytest.raises(UserError, match="not a folder that Stentor made"):
        open_shards(tmp_path)
    tokenizer.save(tmp_path / "tokenizer")
    with pytest.raises(UserError, match="not a 'shards' folder"):
        open_shards(tmp_path / "tokenizer")


def test_truncated_shard_is_refused(copied):
    data = (copied / "train.bin").read_bytes()
    (copied / "train.bin").write_bytes(data[:-8])
    with pytest.raises(CorruptArtifactError, match=r"train\.bin has \d+ bytes, its manifest says"):
        open_shards(copied)


@pytest.mark.parametrize("offset", [100, 4096, 4101, -3])
def test_an_altered_byte_is_refused(copied, offset):
    data = bytearray((copied / "train.bin").read_bytes())
    data[offset] ^= 1
    (copied / "train.bin").write_bytes(bytes(data))
    with pytest.raises(CorruptArtifactError, match=r"train\.bin does not match its checksum"):
        open_shards(copied)


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize(
    "changes", [{"vocab_size": 65_536}, {"vocab_size": 281}, {"vocab_size": 279}, {"eos_token_id": 5}]
)
def test_a_header_that_says_other_than_the_tokenizer_is_refused(copied, split, changes):
    """A network of the header's size would be trained, or text would be cut elsewhere, without a word."""
    path = copied / f"{split}.bin"
    header = dataclasses.replace(open_shard(path).header, **changes)
    path.write_bytes(header.to_bytes() + path.read_bytes()[HEADER_BYTES:])
    seal_anew(path)
    with pytest.raises(CorruptArtifactError, match=rf"{split}\.bin was made with another tokenizer") as caught:
        open_shards(copied)
    assert caught.value.fix == "make the shards again: stentor prepare"


@pytest.mark.parametrize("vocab_size", [0, -1, 65_537, 1 << 40, 1 << 200])
def test_an_absurd_vocabulary_is_refused(copied, vocab_size):
    path = copied / "train.bin"
    header = dataclasses.replace(open_shard(path).header, vocab_size=vocab_size)
    path.write_bytes(header.to_bytes() + path.read_bytes()[HEADER_BYTES:])
    seal_anew(path)
    with pytest.raises(CorruptArtifactError, match=r"train\.bin cannot be used: its header has counts that cannot be"):
        open_shards(copied)


@pytest.mark.parametrize("details", [{"train": 5}, {"validation": {"num_lost_bytes": "many"}}])
def test_a_manifest_that_says_something_else_is_refused(copied, details):
    seal_anew(copied / "train.bin", **details)
    with pytest.raises(CorruptArtifactError, match="does not say what its ids leave out"):
        open_shards(copied)


@pytest.mark.parametrize("name", ["validation.bin", "tokenizer.json"])
def test_missing_file_is_refused(copied, name):
    (copied / name).unlink()
    with pytest.raises(UserError):
        open_shards(copied)


def test_tokenizer_of_another_shard_is_refused(copied, tmp_path, corpus):
    """The header remembers its tokenizer, whatever the folder says."""
    other = train_bpe([document.text for document in corpus("train")] * 2, vocab_size=275)
    build_shards(corpus, other, tmp_path / "other")
    shutil.copy(copied / "train.bin", tmp_path / "other" / "train.bin")
    seal_anew(tmp_path / "other" / "train.bin")
    with pytest.raises(CorruptArtifactError, match="made with another tokenizer"):
        open_shards(tmp_path / "other")


def test_tiny_corpus_end_to_end(shared, tmp_path):
    """Real text: a sample of the shared corpus becomes sequences, and every byte of it comes back."""
    from stentor.text.sources import open_source

    documents = list(islice(open_source(str(shared / "corpus" / "tiny.jsonl.zst")), 40))
    tokenizer = train_bpe([document.text for document in documents], vocab_size=2048)
    splits = {"train": documents[4:], "validation": documents[:4]}
    shards = build_shards(splits.__getitem__, tokenizer, tmp_path / "shards", num_workers=2)
    assert texts_of(shards.train, tokenizer) == [document.text for document in documents[4:]]
    assert shards.train.num_text_bytes / shards.train.num_tokens > 2.5
    sequences = PackedSequences(shards.train, 1024)
    assert len(sequences) == -(-shards.train.num_tokens // 1024)


def test_a_tokenmonster_vocabulary_travels_with_its_shards(tiny_tokenmonster, tmp_path):
    texts = {
        "train": ["The people of THIS world", "caf\u00e9 for two", "and\x00one", "when he was one"],
        "validation": ["none\x01of\x02them", "all of it"],
    }
    shards = build_shards(
        lambda split: [Document(text, str(index), "test") for index, text in enumerate(texts[split])],
        tiny_tokenmonster,
        tmp_path / "shards",
    )
    assert shards.losses == {"train": Losses(2, 1), "validation": Losses(1, 2)}
    assert open_shards(shards.path).losses == shards.losses
    assert open_shards(shards.path).tokenizer.sha256 == tiny_tokenmonster.sha256
    assert shards.train.num_text_bytes == sum(len(text.encode()) for text in texts["train"])
    assert shards.train.token_ids[: shards.train.document_starts[1]].tolist() == [
        *tiny_tokenmonster.encode(texts["train"][0]),
        tiny_tokenmonster.eos_token_id,
    ]
    assert (
        shards.tokenizer.decode(shards.train.token_ids)
        == "The people of THIS worldcafe\u0301 for twoandonewhen he was one"
    )


def test_shards_with_another_vocabulary_are_refused(tiny_tokenmonster, corpus, tmp_path):
    shards = build_shards(corpus, tiny_tokenmonster, tmp_path / "shards")
    vocab = dataclasses.replace(
        tiny_tokenmonster.vocab, settings=dataclasses.replace(tiny_tokenmonster.vocab.settings, reserve=1)
    )
    (shards.path / "tokenmonster.vocab").write_bytes(pack_vocab(vocab))
    with pytest.raises(CorruptArtifactError, match="checksum"):
        open_shards(shards.path)
