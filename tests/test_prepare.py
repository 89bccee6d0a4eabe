"""Text to shards: a stage is kept while its settings stay the same, refused when they changed, and never half-made."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from stentor import prepare as module
from stentor.artifacts import read_manifest, verify_directory, write_file
from stentor.config import Recipe, TextConfig, TokenizerConfig
from stentor.errors import CorruptArtifactError, UserError
from stentor.prepare import default_data_dir, prepare
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.bpe import train_bpe

STAGES = ["reading and cleaning text", "learning a vocabulary", "packing token ids"]
FOLDERS = ["corpus", "tokenizer", "shards"]
WORDS = ["sun", "rain", "wind", "frost", "thunder", "mist", "hail", "drizzle", "and", "then", "again", "no more"]


class Watched:
    """Prepares a recipe and keeps which stages were at work and what they showed."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.shown: dict[str, list[tuple[int, int]]] = {}

    def __call__(self, recipe: Recipe, folder: Path, **options):
        self.stages.clear()
        return prepare(recipe, folder, watch=self._watch, **options)

    @contextmanager
    def _watch(self, label: str):
        self.stages.append(label)
        self.shown[label] = []
        yield lambda num_documents, num_bytes: self.shown[label].append((num_documents, num_bytes))


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def text(tmp_path) -> Path:
    generator = np.random.default_rng(5)
    lines = [json.dumps({"text": " ".join(generator.choice(WORDS, 40))}) for _ in range(50)]
    write_file(tmp_path / "text.jsonl", "\n".join(lines) + "\n")
    return tmp_path / "text.jsonl"


@pytest.fixture
def recipe(text) -> Recipe:
    return Recipe(
        name="weather",
        text=TextConfig(source=str(text), validation="take:5", min_characters=20),
        tokenizer=TokenizerConfig(vocab_size=280),
    )


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def with_text(recipe: Recipe, **changes) -> Recipe:
    return dataclasses.replace(recipe, text=dataclasses.replace(recipe.text, **changes))


def with_tokenizer(recipe: Recipe, **changes) -> Recipe:
    return dataclasses.replace(recipe, tokenizer=dataclasses.replace(recipe.tokenizer, **changes))


def test_three_sealed_folders_that_belong_together(watched, recipe, tmp_path):
    prepared = watched(recipe, tmp_path / "data")
    assert watched.stages == STAGES
    details = {name: verify_directory(tmp_path / "data" / name, kind=name).details for name in FOLDERS}
    assert details["corpus"]["config"] == dataclasses.asdict(recipe.text)
    assert details["tokenizer"]["config"] == dataclasses.asdict(recipe.tokenizer)
    assert details["tokenizer"]["corpus_sha256"] == details["shards"]["corpus_sha256"] == prepared.corpus.sha256
    assert details["shards"]["tokenizer_sha256"] == prepared.tokenizer.sha256
    assert (prepared.shards.train.num_documents, prepared.shards.validation.num_documents) == (45, 5)
    assert prepared.tokenizer.vocab_size == 280


def test_the_shards_hold_the_text(watched, recipe, tmp_path):
    prepared = watched(recipe, tmp_path / "data")
    for split in ("train", "validation"):
        shard = getattr(prepared.shards, split)
        texts = [document.text.encode() for document in prepared.corpus.documents(split)]
        assert prepared.tokenizer.decode_bytes(shard.token_ids) == b"".join(texts)
        assert shard.num_text_bytes == sum(map(len, texts))


def test_progress_is_counted_in_documents_and_bytes(watched, recipe, tmp_path):
    prepared = watched(recipe, tmp_path / "data")
    train, held_out = prepared.shards.train, prepared.shards.validation
    assert watched.shown[STAGES[0]][-1] == (45, train.num_text_bytes)
    assert watched.shown[STAGES[1]][-1] == (45, train.num_text_bytes)
    assert watched.shown[STAGES[2]][-1] == (50, train.num_text_bytes + held_out.num_text_bytes)


def test_a_second_call_opens_what_is_there(watched, recipe, tmp_path):
    first = watched(recipe, tmp_path / "data")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    again = watched(recipe, tmp_path / "data")
    assert watched.stages == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == before
    assert again.corpus.sha256 == first.corpus.sha256
    assert again.tokenizer.sha256 == first.tokenizer.sha256
    np.testing.assert_array_equal(again.shards.train.token_ids, first.shards.train.token_ids)


def test_the_same_recipe_gives_the_same_bytes_anywhere(watched, recipe, tmp_path):
    watched(recipe, tmp_path / "one")
    watched(recipe, tmp_path / "two")
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_settings_of_the_model_and_the_training_do_not_matter(watched, recipe, tmp_path):
    watched(recipe, tmp_path / "data")
    train = dataclasses.replace(recipe.train, lr=0.5, tokens=1024, global_batch_tokens=1024)
    watched(dataclasses.replace(recipe, name="other", description="x", train=train), tmp_path / "data")
    assert watched.stages == []


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        (lambda recipe: with_text(recipe, min_characters=21), "corpus"),
        (lambda recipe: with_text(recipe, validation="take:6"), "corpus"),
        (lambda recipe: with_tokenizer(recipe, vocab_size=281), "tokenizer"),
        (lambda recipe: with_tokenizer(recipe, train_bytes=1000), "tokenizer"),
    ],
)
def test_other_settings_are_refused_then_forced(watched, recipe, tmp_path, changed, refused):
    watched(recipe, tmp_path / "data")
    before = digests(tmp_path / "data")
    with pytest.raises(UserError, match=f"{refused} was made with other settings") as caught:
        watched(changed(recipe), tmp_path / "data")
    assert "--force" in caught.value.fix
    assert digests(tmp_path / "data") == before
    watched(changed(recipe), tmp_path / "data", replace=True)
    assert watched.stages == STAGES
    assert digests(tmp_path / "data") != before
    watched(changed(recipe), tmp_path / "data")
    assert watched.stages == []


def test_force_reads_a_text_that_changed(watched, recipe, text, tmp_path):
    first = watched(recipe, tmp_path / "data")
    write_file(text, text.read_text() + json.dumps({"text": "thunder and rain and thunder again"}) + "\n")
    assert watched(recipe, tmp_path / "data").corpus.sha256 == first.corpus.sha256
    forced = watched(recipe, tmp_path / "data", replace=True)
    assert forced.shards.train.num_documents == 46


@pytest.mark.parametrize("made", [0, 1, 2])
def test_an_interruption_between_or_inside_stages_goes_on_where_it_was(watched, recipe, tmp_path, monkeypatch, made):
    watched(recipe, tmp_path / "whole")

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, ("prepare_corpus", "train_bpe", "build_shards")[made], interrupt)
        with pytest.raises(KeyboardInterrupt):
            watched(recipe, tmp_path / "data")
    assert sorted(path.name for path in (tmp_path / "data").glob("*")) == sorted(FOLDERS[:made])
    watched(recipe, tmp_path / "data")
    assert watched.stages == STAGES[made:]
    assert digests(tmp_path / "data") == digests(tmp_path / "whole")


@pytest.mark.parametrize("stage", STAGES)
def test_an_interruption_while_a_stage_is_at_work_leaves_no_half_of_it(recipe, tmp_path, stage):
    @contextmanager
    def interrupted(label: str):
        def on_progress(num_documents: int, num_bytes: int) -> None:
            if label == stage:
                raise KeyboardInterrupt

        yield on_progress

    with pytest.raises(KeyboardInterrupt):
        prepare(recipe, tmp_path / "data", watch=interrupted)
    assert sorted(path.name for path in (tmp_path / "data").glob("*")) == sorted(FOLDERS[: STAGES.index(stage)])


def test_a_tokenizer_from_elsewhere_is_used_and_not_copied(watched, recipe, tmp_path):
    tokenizer = train_bpe([" ".join(WORDS) * 9], vocab_size=270)
    tokenizer.save(tmp_path / "elsewhere")
    recipe = with_tokenizer(recipe, path=str(tmp_path / "elsewhere"))
    prepared = watched(recipe, tmp_path / "data")
    assert watched.stages == [STAGES[0], STAGES[2]]
    assert prepared.tokenizer.sha256 == prepared.shards.tokenizer.sha256 == tokenizer.sha256
    assert not (tmp_path / "data" / "tokenizer").exists()
    watched(recipe, tmp_path / "data")
    assert watched.stages == []
    train_bpe([" ".join(WORDS) * 9], vocab_size=271).save(tmp_path / "elsewhere", replace=True)
    with pytest.raises(UserError, match="shards was made with other settings"):
        watched(recipe, tmp_path / "data")


def test_a_missing_tokenizer_is_refused(watched, recipe, tmp_path):
    with pytest.raises(UserError, match="no tokenizer at nowhere"):
        watched(with_tokenizer(recipe, path="nowhere"), tmp_path / "data")


def test_the_vocabulary_is_learned_from_the_first_bytes_only(watched, recipe, tmp_path):
    recipe = with_tokenizer(recipe, train_bytes=1000)
    prepared = watched(recipe, tmp_path / "data")
    num_documents, num_bytes = watched.shown[STAGES[1]][-1]
    assert 1000 <= num_bytes < 1500
    texts = [document.text for document in prepared.corpus.documents("train")][:num_documents]
    assert prepared.tokenizer.sha256 == train_bpe(texts, vocab_size=280).sha256


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("corpus/train.jsonl.zst", "train.jsonl.zst"),
        ("corpus/manifest.json", "manifest.json"),
        ("tokenizer/tokenizer.json", "tokenizer.json"),
        ("tokenizer/manifest.json", "manifest.json"),
        ("shards/train.bin", "train.bin"),
        ("shards/tokenizer.json", "tokenizer.json"),
        ("shards/manifest.json", "manifest.json"),
    ],
)
def test_a_damaged_folder_is_named_and_mended_by_force(watched, recipe, tmp_path, name, refused):
    watched(recipe, tmp_path / "data")
    whole = digests(tmp_path / "data")
    write_file(tmp_path / "data" / name, (tmp_path / "data" / name).read_bytes()[:-7])
    with pytest.raises(CorruptArtifactError, match=refused):
        watched(recipe, tmp_path / "data")
    watched(recipe, tmp_path / "data", replace=True)
    assert digests(tmp_path / "data") == whole


def test_a_folder_of_another_kind_is_refused(watched, recipe, tmp_path):
    watched(recipe, tmp_path / "data")
    (tmp_path / "data" / "shards").rename(tmp_path / "data" / "set-aside")
    Tokenizer.load(tmp_path / "data" / "tokenizer").save(tmp_path / "data" / "shards")
    assert read_manifest(tmp_path / "data" / "shards").kind == "tokenizer"
    with pytest.raises(UserError, match="shards was made with other settings"):
        watched(recipe, tmp_path / "data")


def test_the_default_folder_is_named_after_the_recipe(recipe):
    assert default_data_dir(recipe) == Path("data") / "weather"


@pytest.mark.parametrize("kind", ["tokenmonster", "unigram"])
def test_other_kinds_of_tokenizer_are_trained(watched, recipe, tmp_path, kind):
    prepared = watched(with_tokenizer(recipe, kind=kind, vocab_size=310), tmp_path / "data")
    assert prepared.tokenizer.vocab_size == 310
    assert Tokenizer.load(tmp_path / "data" / "tokenizer").sha256 == prepared.tokenizer.sha256
    # On a slow machine it is also said how far the vocabulary is.
    assert [stage for stage in watched.stages if ": " not in stage] == STAGES
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == sorted(FOLDERS)


def test_a_mode_that_needs_markers_is_refused_before_text_is_read(watched, recipe, tmp_path):
    with pytest.raises(UserError, match="needs capcode 1 or 2"):
        watched(with_tokenizer(recipe, kind="tokenmonster", mode="strict", capcode=0), tmp_path / "data")
    assert watched.stages == []
