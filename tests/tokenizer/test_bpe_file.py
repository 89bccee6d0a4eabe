import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from stentor.errors import CorruptArtifactError, UserError
from stentor.tokenizer.bpe import BpeTokenizer, SpecialTokens
from stentor.tokenizer.bpe_file import byte_alphabet, parse_bpe_file


def parse(raw):
    return parse_bpe_file(json.dumps(raw).encode(), "tokenizer.json")


def test_byte_alphabet_is_the_librarys():
    alphabet = byte_alphabet()
    assert set(alphabet) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(alphabet.values()) == list(range(256))
    assert (alphabet["A"], alphabet["\u0120"], alphabet["\u010a"], alphabet["\u00e9"]) == (65, 32, 10, 0xE9)


# --- the canonical form ---


def test_canonical_form_is_a_fixed_point(tokenizer):
    data = tokenizer.files()["tokenizer.json"]
    assert parse_bpe_file(data, "").json_bytes == data


def test_canonical_form_ignores_layout_and_the_order_of_keys(tokenizer, raw):
    shuffled = json.loads(json.dumps(raw, sort_keys=True), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    shuffled["added_tokens"].reverse()
    shuffled["model"]["merges"] = [" ".join(merge) for merge in shuffled["model"]["merges"]]
    assert parse(shuffled).json_bytes == tokenizer.files()["tokenizer.json"]


def test_canonical_form_drops_what_changes_ids_behind_the_back(tokenizer, raw):
    raw["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    raw["padding"] = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_id": 2, "pad_type_id": 0, "pad_token": "x"}
    raw["post_processor"] = {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}
    assert parse(raw).json_bytes == tokenizer.files()["tokenizer.json"]


# --- what is refused ---


def drop_byte(raw):
    spelling = next(token for token, token_id in raw["model"]["vocab"].items() if token_id == 100)
    last = max(raw["model"]["vocab"], key=raw["model"]["vocab"].get)
    del raw["model"]["vocab"][spelling]
    raw["model"]["vocab"][last] = 100


def with_vocab(**tokens):
    return lambda raw: raw["model"]["vocab"].update(tokens)


def with_part(name, value):
    return lambda raw: raw.update({name: value})


def with_model(name, value):
    return lambda raw: raw["model"].update({name: value})


def with_step(index, **changes):
    return lambda raw: raw["pre_tokenizer"]["pretokenizers"][index].update(changes)


def add_token(**changes):
    return lambda raw: raw["added_tokens"].append({"id": 800, "content": "<|x|>", "special": True} | changes)


BROKEN_RULES = {
    "no token has the id 800": with_vocab(new=801),
    "the id 300 stands for both": with_vocab(new=300),
    "has the id -1": with_vocab(new=-1),
    "has the id '800'": with_vocab(new="800"),
    "has the id 800.0": with_vocab(new=800.0),
    "has the id True": with_vocab(new=True),
    "has a token of its own|has no token of its own": drop_byte,
    "not written in the byte-level alphabet": with_vocab(**{"a b": 800}),
    "a token is empty": with_vocab(**{"": 800}),
    "its model is 'Unigram'": with_model("type", "Unigram"),
    "its model sets dropout": with_model("dropout", 0.1),
    "its model sets byte_fallback": with_model("byte_fallback", True),
    "its model sets continuing_subword_prefix": with_model("continuing_subword_prefix", "##"),
    "its model sets end_of_word_suffix": with_model("end_of_word_suffix", "</w>"),
    "it has a normalizer": with_part("normalizer", {"type": "NFC"}),
    "its decoder is not ByteLevel": with_part("decoder", None),
    "not exactly one ByteLevel": with_step(1, type="Split", behavior="Isolated"),
    "adds a space in front": with_step(1, add_prefix_space=True),
    "removes text": with_step(0, behavior="Removed"),
    "a step 'Whitespace'": with_step(0, type="Whitespace"),
    "the added token '<|x|>' is not special": add_token(special=False),
    "the special token '<|padding|>' is listed twice": add_token(content="<|padding|>"),
    "the special token '<|padding|>' has two ids": with_vocab(**{"<|padding|>": 800}),
    "an added token is spelt ''": add_token(content=""),
    "a part is missing or of the wrong type": with_model("merges", [["a"]]),
    "a part is missing .*pre_tokenizer|of the wrong type": with_part("pre_tokenizer", None),
}


@pytest.mark.parametrize("rule", BROKEN_RULES)
def test_broken_rule_is_named(raw, rule):
    BROKEN_RULES[rule](raw)
    with pytest.raises(UserError, match=rule) as caught:
        parse(raw)
    assert str(caught.value).startswith("tokenizer.json is no byte-level BPE that Stentor can use")
    assert caught.value.fix


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b'{"model": \x00}'], ids=["empty", "cut", "utf16", "deep", "nul"]
)
def test_what_is_not_json_is_damaged(data):
    with pytest.raises(CorruptArtifactError, match="it is not JSON"):
        parse_bpe_file(data, "tokenizer.json")


@pytest.mark.parametrize("data", [b"[]", b"{}", b"7", b"null", b'"x"', b'{"model": []}', b'{"added_tokens": 5}'])
def test_json_of_another_kind_is_refused(data):
    with pytest.raises(UserError, match="a part is missing or of the wrong type"):
        parse_bpe_file(data, "tokenizer.json")


PLACES = [
    ("model", "vocab"),
    ("model", "merges"),
    ("model", "type"),
    ("model", "ignore_merges"),
    ("model", "unk_token"),
    ("model",),
    ("added_tokens",),
    ("added_tokens", 0),
    ("added_tokens", 1, "content"),
    ("added_tokens", 1, "id"),
    ("pre_tokenizer",),
    ("pre_tokenizer", "pretokenizers"),
    ("pre_tokenizer", "pretokenizers", 0, "pattern"),
    ("pre_tokenizer", "pretokenizers", 0, "behavior"),
    ("decoder",),
    ("version",),
]
NASTY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from(["", "(", "x", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "Regex", "a"]), inner),
    max_leaves=4,
)


@given(place=st.sampled_from(PLACES), value=NASTY)
def test_damage_anywhere_is_refused_or_harmless(tokenizer, place, value):
    raw = json.loads(tokenizer.files()["tokenizer.json"])
    parent = raw
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    with suppress(UserError):
        damaged = BpeTokenizer(parse(raw), SpecialTokens(), "tokenizer.json")
        assert damaged.decode_bytes(damaged.encode(b"ba na \xff")) == b"ba na \xff"


@pytest.mark.parametrize(
    "merges",
    [[["b", "nowhere"]], [["z", "zzz"]], [["", ""]], [["a", "b"]] * 2],
    ids=["right", "result", "empty", "twice"],
)
def test_merges_of_unknown_tokens_are_refused(raw, merges):
    raw["model"]["merges"] += merges
    with pytest.raises(UserError, match="refused by the tokenizers library") as caught:
        BpeTokenizer(parse(raw), SpecialTokens(), "tokenizer.json")
    assert caught.value.fix


def test_special_token_that_text_can_produce_is_refused(raw):
    word = next(token for token, token_id in raw["model"]["vocab"].items() if token_id == 700)
    raw["added_tokens"].append({**raw["added_tokens"][0], "id": 700, "content": word})
    with pytest.raises(UserError, match="that plain text can produce"):
        BpeTokenizer(parse(raw), SpecialTokens(), "tokenizer.json")
