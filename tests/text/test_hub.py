"""Datasets of the Hub are streamed by `datasets` itself, here from local folders of the same shapes."""

from __future__ import annotations

import json
import sys

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from stentor.errors import MissingDependencyError, UserError
from stentor.text.document import Document, Tally
from stentor.text.hub import HubName, read_hub
from stentor.text.sources import open_source

# One record of each documented dataset, with its real columns.
FINEWEB_EDU = {
    "text": "Photosynthesis turns light into sugar.",
    "id": "<urn:uuid:0d8a309d-25c5-405d-a08a-c11239f0d717>",
    "dump": "CC-MAIN-2013-20",
    "url": "http://example.org/plants",
    "file_path": "s3://commoncrawl/crawl-data/x.warc.gz",
    "language": "en",
    "language_score": 0.95,
    "token_count": 9,
    "score": 3.4,
    "int_score": 3,
}
FINEWEB_HQ = {
    "text": "The moon pulls the sea.",
    "id": "<urn:uuid:1>",
    "url": "http://example.org/moon",
    "quality_score": 0.6,
    "embeddings": [0.25] * 768,
}
COSMOPEDIA = {
    "prompt": "Write a story.",
    "text": "Once there was a bell.",
    "token_length": 6,
    "audience": "young_children",
    "format": "story",
    "seed_data": "ultrachat",
}


@pytest.fixture(autouse=True)
def reached(monkeypatch) -> list[str]:
    """Let every dataset be there; returns the names that were asked for."""
    names = []
    monkeypatch.setattr(HfApi, "dataset_info", lambda self, name, timeout: names.append(name))
    return names


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Let `load_dataset` find datasets in a folder: name -> records, streamed by the real library."""
    real, calls = datasets.load_dataset, []

    def publish(name: str, records: list[dict], kind: str = "parquet") -> list:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        if kind == "parquet":
            datasets.Dataset.from_list(records).to_parquet(folder / "train.parquet")
        else:
            (folder / "train.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")

        def load(path, config=None, *, split, streaming):
            calls.append((path, config, split))
            kind_of_file = "json" if kind == "json" else "parquet"
            files = {"train": str(next((tmp_path / path).iterdir()))}
            return real(
                kind_of_file, data_files=files, split=split, streaming=streaming, cache_dir=str(tmp_path / "cache")
            )

        monkeypatch.setattr(datasets, "load_dataset", load)
        return calls

    return publish


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("hf:a/b", HubName("a/b")),
        ("hf:a/b:c", HubName("a/b", "c")),
        ("hf:a/b:c:validation", HubName("a/b", "c", "validation")),
        ("hf:a/b:test", HubName("a/b", "", "test")),
        ("hf:a/b::odd_split", HubName("a/b", "", "odd_split")),
        ("hf:a/b:train", HubName("a/b", "", "train")),
        (
            "hf:HuggingFaceFW/fineweb-edu:sample-10BT:train",
            HubName("HuggingFaceFW/fineweb-edu", "sample-10BT", "train"),
        ),
        ("hf:HuggingFaceTB/smollm-corpus:cosmopedia-v2", HubName("HuggingFaceTB/smollm-corpus", "cosmopedia-v2")),
    ],
)
def test_parse(spec, expected):
    assert HubName.parse(spec) == expected
    assert HubName.parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("spec", "record", "document_id"),
    [
        ("hf:HuggingFaceFW/fineweb-edu:sample-10BT:train", FINEWEB_EDU, FINEWEB_EDU["id"]),
        ("hf:epfml/FineWeb-HQ", FINEWEB_HQ, FINEWEB_HQ["id"]),
        ("hf:HuggingFaceTB/smollm-corpus:cosmopedia-v2", COSMOPEDIA, None),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_documented_datasets(hub, spec, record, document_id, kind):
    name = HubName.parse(spec)
    calls = hub(name.name, [record, {**record, "text": "Another text."}], kind)
    first, second = open_source(spec)
    assert first == Document(record["text"], document_id or f"{name}:0", str(name))
    assert second.text == "Another text."
    assert calls == [(name.name, name.config or None, name.split)]


def test_only_the_needed_columns_are_decoded(hub, monkeypatch):
    hub("epfml/FineWeb-HQ", [FINEWEB_HQ])
    seen, real = [], datasets.IterableDataset.select_columns
    monkeypatch.setattr(
        datasets.IterableDataset, "select_columns", lambda self, names: (seen.append(names), real(self, names))[1]
    )
    list(open_source("hf:epfml/FineWeb-HQ"))
    assert seen == [["text", "id"]]


@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_dataset_without_text_names_its_columns(hub, kind):
    hub("a/b", [{"body": "x", "url": "y"}], kind)
    with pytest.raises(UserError, match=r"hf:a/b:train has no column 'text' \(columns: body, url\)"):
        list(open_source("hf:a/b"))


def test_null_texts_are_dropped(hub):
    hub("a/b", [{"text": None}, {"text": "fine"}])
    tally = Tally()
    assert [document.text for document in open_source("hf:a/b", tally)] == ["fine"]
    assert tally.dropped_documents == {"text_not_a_string": 1}


def test_nothing_is_loaded_before_the_first_document(hub):
    calls = hub("a/b", [{"text": "fine"}])
    stream = open_source("hf:a/b")
    assert calls == []
    next(stream)
    assert len(calls) == 1


def test_a_hub_that_cannot_be_reached_is_told_at_once(hub, monkeypatch):
    calls = hub("a/b", [{"text": "fine"}])

    def unreachable(self, name, timeout):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(HfApi, "dataset_info", unreachable)
    with pytest.raises(UserError, match="Name or service not known") as caught:
        list(open_source("hf:a/b"))
    assert "check the network" in caught.value.fix
    assert calls == []


def test_a_dataset_that_is_not_there(monkeypatch):
    def missing(self, name, timeout):
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)

    monkeypatch.setattr(HfApi, "dataset_info", missing)
    with pytest.raises(UserError, match="no dataset a/b on the Hugging Face Hub"):
        list(open_source("hf:a/b"))


@pytest.mark.parametrize("name", ["a b", "../../etc/passwd", "/etc", "~/x", ".", "a/b/c", "a//b", "-x"])
def test_a_name_that_no_dataset_has(name):
    with pytest.raises(UserError, match="is not hf:NAME"):
        open_source(f"hf:{name}")


def test_a_folder_is_not_taken_for_a_dataset(tmp_path, monkeypatch, reached):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="but a is here"):
        list(open_source("hf:a"))
    assert reached == []


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def load(*args, **kwargs):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)"),
        TimeoutError("timed out"),
        OSError(),
    ],
)
def test_no_network_is_one_sentence(monkeypatch, error):
    fail_with(monkeypatch, error)
    with pytest.raises(UserError, match="cannot be streamed from the Hugging Face Hub") as caught:
        list(open_source("hf:a/b"))
    assert "check the network" in caught.value.fix
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "error",
    [
        DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."),
        ValueError("BuilderConfig 'x' not found. Available: ['y']\nmore lines"),
        ValueError('Bad split: x. Available splits: ["train"]'),
    ],
)
def test_wrong_name_configuration_or_split(monkeypatch, error):
    fail_with(monkeypatch, error)
    with pytest.raises(UserError, match="cannot be opened") as caught:
        list(open_source("hf:a/b:x"))
    assert str(error).partition("\n")[0].rstrip(".") in caught.value.message
    assert "\n" not in caught.value.message


def test_network_lost_in_the_middle_of_the_stream(monkeypatch):
    class Cut:
        column_names = None

        def __iter__(self):
            yield {"text": "first"}
            raise ConnectionError("Server Disconnected")

    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: Cut())
    stream = read_hub(HubName("a/b"), Tally())
    assert next(stream).text == "first"
    with pytest.raises(UserError, match="Server Disconnected"):
        next(stream)


def test_empty_stream_of_unknown_columns(monkeypatch):
    class Empty:
        column_names = None

        def __iter__(self):
            return iter(())

    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: Empty())
    assert list(read_hub(HubName("a/b"), Tally())) == []


def test_missing_datasets_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match="'datasets'") as caught:
        list(open_source("hf:a/b"))
    assert "stentor[hf]" in caught.value.fix
