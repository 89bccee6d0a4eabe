"""What a stand-in tokenizer costs: numbers against a slow count, and what they are called."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.evaluate.text import evaluate
from stentor.export import mapped
from stentor.export.mapped import measure_mapping, prepared, sample_pieces, similarity
from stentor.export.source import read_source
from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer

TEXT = "The people of THIS world have not been here. " * 60 + "caf\u00e9 \U0001f600\n"


@pytest.fixture
def sample(tmp_path):
    write_file(tmp_path / "sample.txt", TEXT)
    return str(tmp_path / "sample.txt")


def test_a_mapping_that_is_the_tokenizer_itself_costs_nothing(monster_models, sample):
    source = read_source(monster_models["llama"], dtype="float32")
    assert isinstance(source.tokenizer, TokenMonsterTokenizer)
    texts = {prepared(source.tokenizer, text): text for text in [*sample_pieces(sample), *mapped.mixed_probes()]}
    cost = measure_mapping(
        source, lambda data: source.tokenizer.encode(texts.get(data, data)), kind="itself", sample=sample
    )
    assert cost.raw == cost.prepared
    assert (cost.raw.equal_strings, cost.raw.similarity) == (1.0, 1.0)
    assert cost.raw.bits_per_byte == cost.bits_per_byte
    assert cost.num_bytes == len(TEXT.encode())
    assert cost.num_strings == 300
    expected = evaluate(monster_models["llama"], sample_pieces(sample))
    assert cost.bits_per_byte == pytest.approx(expected.bits_per_byte, abs=1e-3)


def test_another_cut_is_measured(monster_models, sample):
    source = read_source(monster_models["llama"], dtype="float32")
    cost = measure_mapping(source, lambda data: [byte % 200 for byte in data], kind="bytes", sample=sample)
    assert cost.raw.similarity < 0.2
    assert cost.raw.equal_strings < 0.1
    assert cost.raw.bits_per_byte > cost.bits_per_byte


def test_the_file_keeps_every_number_and_a_sentence(monster_models, sample):
    source = read_source(monster_models["llama"], dtype="float32")
    cost = measure_mapping(source, lambda data: [1] * len(data), kind="ones", sample=sample)
    metadata = cost.to_metadata()
    assert metadata["stentor.mapped_tokenizer.kind"] == "ones"
    assert metadata["stentor.mapped_tokenizer.raw.similarity"] == cost.raw.similarity
    assert metadata["stentor.mapped_tokenizer.prepared.bits_per_byte"] == cost.prepared.bits_per_byte
    assert metadata["stentor.mapped_tokenizer.bits_per_byte"] == cost.bits_per_byte
    assert "its token ids are not the model's own" in metadata["general.description"]
    assert f"{cost.raw.bits_per_byte:.3f} bits per byte instead of" in metadata["general.description"]


row = st.lists(st.integers(0, 5), max_size=12)


@given(pairs=st.lists(st.tuples(row, row), min_size=1, max_size=4))
def test_similarity_is_difflibs_ratio_over_all_texts(pairs):
    ours, theirs = zip(*pairs, strict=True)
    found = similarity(ours, theirs)
    assert 0 <= found <= 1
    if len(pairs) == 1:
        expected = difflib.SequenceMatcher(None, ours[0], theirs[0], autojunk=False).ratio()
        assert found == pytest.approx(expected, abs=1e-4)
    assert similarity(ours, ours) == 1.0


def test_a_sample_is_the_first_50_kb_in_short_pieces(tmp_path):
    write_file(tmp_path / "long.txt", "caf\u00e9 " * 30_000)
    pieces = sample_pieces(str(tmp_path / "long.txt"))
    assert all(len(piece) <= 2_000 for piece in pieces)
    assert "".join(pieces) == ("caf\u00e9 " * 30_000)[: sum(map(len, pieces))]
    num_bytes = sum(len(piece.encode()) for piece in pieces)
    assert 50_000 <= num_bytes < 50_000 + 4 * 2_000


def test_a_sample_without_text_is_refused(tmp_path):
    write_file(tmp_path / "empty.txt", "")
    with pytest.raises(UserError, match="no text in"):
        sample_pieces(str(tmp_path / "empty.txt"))
