"""A Unigram tokenizer.json whose ids could surprise is refused, and the rule is named."""

import json

import pytest

from stentor.errors import CorruptArtifactError, UserError
from stentor.tokenizer.unigram_file import is_unigram, parse_unigram_file, write_unigram_file

BYTES = [bytes([byte]) for byte in range(256)]
TOKENS = [*BYTES, b"ab", b" the", b"\n\n", "\u00e9".encode()]
SPECIAL = ["<|endoftext|>", "<|beginoftext|>", "<|padding|>"]


@pytest.fixture
def raw() -> dict:
    return json.loads(write_unigram_file(TOKENS, SPECIAL))


def parse(raw: dict):
    return parse_unigram_file(json.dumps(raw).encode(), "tokenizer.json")


def test_what_is_written_is_read(raw):
    data = write_unigram_file(TOKENS, SPECIAL)
    parsed = parse_unigram_file(data, "tokenizer.json")
    assert parsed.token_bytes == [*TOKENS, b"", b"", b""]
    assert parsed.special_ids == {content: 260 + index for index, content in enumerate(SPECIAL)}
    assert parsed.json_bytes == data == parse(raw).json_bytes


def test_what_other_programs_add_does_not_matter(raw):
    changed = {**raw, "truncation": {"max_length": 5}, "padding": {"x": 1}, "post_processor": {"type": "x"}}
    changed["model"] = {**raw["model"], "unk_id": 3}
    assert parse(changed).json_bytes == parse(raw).json_bytes


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda raw: raw.update(normalizer={"type": "NFC"}), "it has a normalizer"),
        (lambda raw: raw.update(pre_tokenizer={"type": "ByteLevel"}), "cuts text in another way"),
        (lambda raw: raw.update(decoder=None), "decoder is not ByteLevel"),
        (lambda raw: raw["model"].update(byte_fallback=True), "byte_fallback"),
        (lambda raw: raw["model"]["vocab"].append(["ab", -1.0]), "'ab' has two ids"),
        (lambda raw: raw["model"]["vocab"][5].__setitem__(1, -2.0), "another score than -1.0"),
        (lambda raw: raw["model"]["vocab"].pop(0), "has not the id"),
        (lambda raw: raw["added_tokens"][0].update(id=0), "has not the id"),
        (lambda raw: raw["added_tokens"][0].update(special=False), "not special"),
        (lambda raw: raw["model"]["vocab"][97].__setitem__(0, "\u4e2d"), "byte-level alphabet"),
        (lambda raw: raw["model"]["vocab"][97].__setitem__(0, "xyz"), "has no token of its own"),
        (lambda raw: raw["model"].pop("vocab"), "a part is missing"),
        (lambda raw: raw["model"]["vocab"].__setitem__(0, 7), "wrong type"),
    ],
)
def test_broken_rules_are_named(raw, damage, rule):
    damage(raw)
    with pytest.raises(UserError, match=rule):
        parse(raw)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000])
def test_what_is_not_json_is_damaged(data):
    assert not is_unigram(data)
    with pytest.raises(CorruptArtifactError, match="damaged"):
        parse_unigram_file(data, "tokenizer.json")


def test_the_family_is_told_by_the_model(raw):
    assert is_unigram(json.dumps(raw).encode())
    for other in ({}, {"model": None}, {"model": {"type": "BPE"}}, 7):
        assert not is_unigram(json.dumps(other).encode())
