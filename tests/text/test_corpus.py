"""A corpus is whole, repeatable and honest about what it left out, or it is not there at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stentor.config import TextConfig
from stentor.errors import CorruptArtifactError, UserError
from stentor.text.clean import clean_text
from stentor.text.corpus import Corpus, open_corpus, prepare_corpus
from stentor.text.split import digest_of


def write_lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def config(source: Path | str, **changes: object) -> TextConfig:
    return TextConfig(**{"source": str(source), "validation": "take:2", "min_characters": 1, **changes})  # type: ignore[arg-type]


def texts(corpus: Corpus, split: str) -> list[str]:
    return [document.text for document in corpus.documents(split)]  # type: ignore[arg-type]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "source.jsonl", [f"Document {n}, with some words in it." for n in range(10)])


def test_corpus_holds_the_split_documents(source, tmp_path):
    corpus = prepare_corpus(config(source), tmp_path / "corpus")
    assert texts(corpus, "validation") == [f"Document {n}, with some words in it." for n in (0, 1)]
    assert texts(corpus, "train") == [f"Document {n}, with some words in it." for n in range(2, 10)]
    first = next(corpus.documents("train"))
    assert (first.id, first.source) == ("source.jsonl:3", str(source))
    assert (corpus.num_documents("train"), corpus.num_text_bytes("validation")) == (8, 68)
    assert open_corpus(tmp_path / "corpus") == corpus


def test_manifest_tells_how_it_was_made(tmp_path):
    source = write_lines(tmp_path / "source.jsonl", ["held out", "a  \r\nb", "a\nb", "held out ", "x", "", "good text"])
    corpus = prepare_corpus(config(source, validation="take:1", min_characters=2), tmp_path / "corpus")
    assert corpus.details["config"] == {
        "source": str(source),
        "validation": "take:1",
        "min_characters": 2,
        "max_bytes": 0,
    }
    assert corpus.details["tally"]["kept"] == {"num_documents": 3, "num_text_bytes": 8 + 3 + 9}
    assert corpus.details["tally"]["dropped"] == {
        "duplicate": {"num_documents": 1, "num_text_bytes": 3},
        "empty": {"num_documents": 1, "num_text_bytes": 0},
        "in_validation": {"num_documents": 1, "num_text_bytes": 8},
        "too_short": {"num_documents": 1, "num_text_bytes": 1},
    }
    assert corpus.details["splits"]["train"]["num_documents"] == 2


def test_hash_is_that_of_the_texts(source, tmp_path):
    corpus = prepare_corpus(config(source), tmp_path / "corpus")
    digests = {}
    for split in ("train", "validation"):
        expected = hashlib.sha256()
        for text in texts(corpus, split):
            expected.update(len(text.encode()).to_bytes(8, "little") + text.encode())
        digests[split] = expected.hexdigest()
        assert corpus.details["splits"][split]["sha256"] == digests[split]
    lines = f"train {digests['train']}\nvalidation {digests['validation']}\n"
    assert corpus.sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_hash_is_golden(source, tmp_path):
    assert prepare_corpus(config(source), tmp_path / "corpus").sha256 == (
        "671133b04ca61e59a019a1c17b7adf111873c2b8c4a7221b9aaf92ddf9aa10c7"
    )


def test_same_source_gives_the_same_bytes(source, tmp_path):
    for name in ("one", "two"):
        prepare_corpus(config(source), tmp_path / name)
    for file in ("train.jsonl.zst", "validation.jsonl.zst", "manifest.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_files_are_plain_json_lines(source, tmp_path):
    prepare_corpus(config(source), tmp_path / "corpus")
    with zstandard.open(tmp_path / "corpus" / "train.jsonl.zst", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    assert records[0] == {
        "text": "Document 2, with some words in it.",
        "id": "source.jsonl:3",
        "source": str(source),
    }


def test_corpus_is_a_source_for_another_corpus(source, tmp_path):
    first = prepare_corpus(config(source), tmp_path / "first")
    again = prepare_corpus(config(first.path / "train.jsonl.zst", validation="take:1"), tmp_path / "second")
    assert list(again.documents("train")) == list(first.documents("train"))[1:]


@pytest.mark.parametrize(("max_bytes", "num_train"), [(1, 1), (34, 1), (35, 2), (0, 8), (10**9, 8)])
def test_stops_after_max_bytes_of_training_text(source, tmp_path, max_bytes, num_train):
    corpus = prepare_corpus(config(source, max_bytes=max_bytes), tmp_path / "corpus")
    assert corpus.num_documents("train") == num_train
    assert corpus.num_documents("validation") == 2


def test_held_out_file_stays_raw_and_out_of_training(source, tmp_path):
    raw = ["Document 3, with some  words in it.\r\n", "Document 4, with some words in it.  ", "", "x\x00"]
    held_out = write_lines(tmp_path / "val.jsonl", raw)
    corpus = prepare_corpus(config(source, validation=f"file:{held_out}"), tmp_path / "corpus")
    assert texts(corpus, "validation") == raw
    assert "Document 4, with some words in it." not in texts(corpus, "train")
    assert corpus.num_documents("train") == 9
    assert corpus.details["tally"]["dropped"]["in_validation"]["num_documents"] == 1


def test_weighted_mix_and_its_notes(tmp_path):
    for name in ("a", "b"):
        write_lines(tmp_path / f"{name}.jsonl", [f"{name} {n:03}" for n in range(50)])
    spec = f"{tmp_path}/a.jsonl=0.8,{tmp_path}/b.jsonl=0.2"
    corpus = prepare_corpus(config(spec), tmp_path / "corpus")
    assert "a.jsonl ended after 50 documents" in corpus.details["tally"]["notes"][0]
    assert 29 <= sum(text.startswith("a") for text in texts(corpus, "train")[:38]) <= 32


def test_progress_never_goes_back_and_ends_at_the_end(tmp_path):
    source = write_lines(tmp_path / "source.jsonl", [f"text {n}" for n in range(350)])
    calls: list[tuple[int, int]] = []
    corpus = prepare_corpus(
        config(source), tmp_path / "corpus", on_progress=lambda documents, size: calls.append((documents, size))
    )
    assert calls == sorted(calls)
    assert len(calls) == 4
    assert calls[-1] == (348, corpus.num_text_bytes("train"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    raw=st.lists(st.text(alphabet=st.sampled_from("ab\u00e9 \n\t\r\x00\ufeff"), max_size=6), max_size=25),
    validation=st.sampled_from(["take:2", "hash:0.5"]),
)
def test_whatever_comes_in_is_either_kept_once_or_counted(tmp_path, raw, validation):
    source = write_lines(tmp_path / "source.jsonl", raw)
    clean = [clean_text(text) for text in raw]
    try:
        corpus = prepare_corpus(config(source, validation=validation), tmp_path / "corpus", replace=True)
    except UserError as error:
        assert "left" in error.message or "held out" in error.message  # noqa: PT017 - small inputs are refused
        return
    kept = texts(corpus, "train") + texts(corpus, "validation")
    is_text = [text.count("\0") <= len(text) / 4 for text in raw]
    assert sorted(kept) == sorted({text for text, ok in zip(clean, is_text, strict=True) if ok} - {""})
    dropped = corpus.details["tally"]["dropped"]
    assert len(kept) + sum(entry["num_documents"] for entry in dropped.values()) == len(raw)
    assert not {digest_of(t) for t in texts(corpus, "train")} & {digest_of(t) for t in texts(corpus, "validation")}


# --- refusals ---


def refused(config: TextConfig, destination: Path) -> UserError:
    """Expect a refusal that leaves nothing behind."""
    before = sorted(destination.parent.rglob("*"))
    with pytest.raises(UserError) as caught:
        prepare_corpus(config, destination)
    assert sorted(destination.parent.rglob("*")) == before
    assert caught.value.fix
    return caught.value


def test_empty_corpus_says_what_was_read_and_dropped(tmp_path):
    source = write_lines(tmp_path / "source.jsonl", ["short", "short too", ""])
    error = refused(config(source, min_characters=200), tmp_path / "corpus")
    assert "no training document is left" in error.message
    assert "3 were read, 0 held out (take:2), dropped: 1 empty, 2 too_short" in error.message


def test_empty_file(tmp_path):
    (tmp_path / "a.txt").touch()
    error = refused(config(tmp_path / "a.txt"), tmp_path / "corpus")
    assert "dropped: 1 empty" in error.message


def test_all_documents_held_out(source, tmp_path):
    error = refused(config(source, validation="take:2000"), tmp_path / "corpus")
    assert "10 were read, 10 held out (take:2000)" in error.message


def test_nothing_held_out(source, tmp_path):
    error = refused(config(source, validation="hash:0.0001"), tmp_path / "corpus")
    assert "no document is held out" in error.message
    assert "10 are left to train on" in error.message


def test_existing_output_is_refused_or_replaced(source, tmp_path):
    corpus = prepare_corpus(config(source), tmp_path / "corpus")
    assert "already exists" in refused(config(source), tmp_path / "corpus").message
    assert open_corpus(tmp_path / "corpus") == corpus
    replaced = prepare_corpus(config(source, validation="take:3"), tmp_path / "corpus", replace=True)
    assert replaced.num_documents("validation") == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "none.txt"},
        {"validation": "take:0"},
        {"validation": "file:none.txt"},
    ],
)
def test_bad_settings_are_refused_before_anything_is_made(source, tmp_path, changes):
    refused(config(**{"source": source, **changes}), tmp_path / "corpus")


def test_truncated_source_leaves_nothing(source, tmp_path):
    path = tmp_path / "cut.jsonl.zst"
    path.write_bytes(zstandard.compress(source.read_bytes())[:-10])
    error = refused(config(path), tmp_path / "corpus")
    assert "cut.jsonl.zst ends too early" in error.message


def test_interruption_leaves_nothing(source, tmp_path):
    def interrupt(documents: int, num_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(config(source), tmp_path / "corpus", on_progress=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.jsonl"]


def test_opening_what_is_no_corpus(source, tmp_path):
    with pytest.raises(UserError, match="not a folder that Stentor made"):
        open_corpus(tmp_path)
    corpus = prepare_corpus(config(source), tmp_path / "corpus")
    (corpus.path / "train.jsonl.zst").unlink()
    with pytest.raises(CorruptArtifactError, match=r"train\.jsonl\.zst is missing"):
        open_corpus(corpus.path)


@pytest.mark.parametrize("damage", ["cut", "extend"])
def test_file_of_another_size_is_refused_on_opening(source, tmp_path, damage):
    corpus = prepare_corpus(config(source), tmp_path / "corpus")
    file = corpus.path / "validation.jsonl.zst"
    data = file.read_bytes()
    file.write_bytes(data[:-1] if damage == "cut" else data + b"\0")
    with pytest.raises(CorruptArtifactError, match=r"validation\.jsonl\.zst has \d+ bytes, its manifest says"):
        open_corpus(corpus.path)


def test_flipped_byte_is_refused_on_opening(source, tmp_path):
    file = prepare_corpus(config(source), tmp_path / "corpus").path / "train.jsonl.zst"
    data = file.read_bytes()
    for position in range(0, len(data), 7):
        file.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(CorruptArtifactError, match=r"train\.jsonl\.zst does not match its checksum"):
            open_corpus(tmp_path / "corpus")


def test_flipped_byte_is_refused_on_reading_or_leaves_the_text_as_it_was(source, tmp_path):
    corpus = prepare_corpus(config(source), tmp_path / "corpus")
    file = corpus.path / "train.jsonl.zst"
    data, expected = file.read_bytes(), texts(corpus, "train")
    for position in range(len(data)):
        file.write_bytes(data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :])
        try:
            assert texts(corpus, "train") == expected, position
        except CorruptArtifactError as error:
            assert error.fix  # noqa: PT017 - some bytes, such as a flag that is not read, do no harm


def test_damaged_lines_inside_a_corpus_are_refused(source, tmp_path):
    corpus = prepare_corpus(config(source), tmp_path / "corpus")
    (corpus.path / "train.jsonl.zst").write_bytes(zstandard.compress(b'{"text": "fine"}\n{"text": "cu'))
    with pytest.raises(CorruptArtifactError, match="damaged"):
        texts(corpus, "train")


def test_real_corpus(shared, tmp_path):
    source = shared / "corpus" / "tiny.jsonl.zst"
    corpus = prepare_corpus(TextConfig(source=str(source), validation="hash:0.05"), tmp_path / "corpus")
    total = corpus.num_text_bytes("train") + corpus.num_text_bytes("validation")
    assert corpus.num_documents("train") + corpus.num_documents("validation") == 276
    assert 0 < corpus.num_documents("validation") < 30
    assert abs(total - 2_000_651) < 1000  # NFKC and blanks change a handful of bytes
    assert corpus.details["tally"]["dropped"] == {}


def test_real_validation_file_is_kept_byte_for_byte(shared, tmp_path):
    folder = shared / "corpus"
    settings = TextConfig(source=str(folder / "tiny.jsonl.zst"), validation=f"file:{folder / 'edu-val.jsonl.zst'}")
    corpus = prepare_corpus(settings, tmp_path / "corpus")
    assert corpus.num_documents("validation") == 1990
    assert corpus.num_text_bytes("validation") == 15_844_591
    assert corpus.num_documents("train") == 276
