"""Write and read a tokenizer.json of a Unigram vocabulary whose scores are equal: the fewest tokens are the best.

One form only, so that every reader gives the same ids. Text is cut behind line ends; no token reaches from one line
into the next. Among segmentations of a line with equally few tokens the library takes, from the end of the line
backwards, the longest token each time: the sums are of whole numbers, so equals are equal to the bit.
"""

from __future__ import annotations

import json
from typing import Any

from stentor.tokenizer.bpe_file import (
    TokenizerFile,
    byte_alphabet,
    check_file,
    read_special_ids,
    read_token_bytes,
    require,
)

LINES_PATTERN = r"[^\n]*\n+|[^\n]+"
SCORE = -1.0
_PRE_TOKENIZER = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LINES_PATTERN}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    ],
}
_DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def is_unigram(data: bytes) -> bool:
    """Whether this is a tokenizer.json whose model is Unigram."""
    try:
        return json.loads(data)["model"]["type"] == "Unigram"
    except (ValueError, RecursionError, KeyError, TypeError):
        return False


def write_unigram_file(tokens: list[bytes], special: list[str]) -> bytes:
    """Return the tokenizer.json of these tokens, ids in their order, and of special tokens above them."""
    spelling = {byte: character for character, byte in byte_alphabet().items()}
    common = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    raw = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": len(tokens) + index, "content": content, **common} for index, content in enumerate(special)
        ],
        "normalizer": None,
        "pre_tokenizer": _PRE_TOKENIZER,
        "post_processor": None,
        "decoder": _DECODER,
        "model": {
            "type": "Unigram",
            "unk_id": None,
            "vocab": [["".join(spelling[byte] for byte in token), SCORE] for token in tokens],
            "byte_fallback": False,
        },
    }
    return _packed(raw)


def parse_unigram_file(data: bytes, where: str) -> TokenizerFile:
    """Check a tokenizer.json and bring it into canonical form.

    Raises:
        CorruptArtifactError: it is not JSON.
        UserError: it breaks a rule; the rule is named.
    """
    return check_file(data, where, "Unigram vocabulary of the fewest tokens", _checked)


def _checked(raw: dict[str, Any]) -> TokenizerFile:
    special_ids, model = read_special_ids(raw), raw["model"]
    require(not model.get("byte_fallback"), "its model sets byte_fallback")
    require(raw.get("normalizer") is None, "it has a normalizer, so text would not come back as it went in")
    require(raw["pre_tokenizer"] == _PRE_TOKENIZER, "it cuts text in another way than behind line ends")
    require((raw.get("decoder") or {}).get("type") == "ByteLevel", "its decoder is not ByteLevel")
    tokens = [token for token, _ in model["vocab"]]
    twice = next((token for token in tokens if tokens.count(token) > 1), None) if len({*tokens}) < len(tokens) else None
    require(twice is None, f"the token {twice!r} has two ids")
    uneven = next((token for token, score in model["vocab"] if score != SCORE), None)
    require(uneven is None, f"the token {uneven!r} has another score than {SCORE}")
    for place, content in enumerate(sorted(special_ids, key=lambda content: special_ids[content]), start=len(tokens)):
        require(special_ids[content] == place, f"the special token {content!r} has not the id {place}")
        require(content not in tokens, f"the special token {content!r} has two ids")
    model["unk_id"] = None  # every byte has a token
    token_bytes = read_token_bytes([*tokens, *special_ids], special_ids)
    ordered = {**raw, "truncation": None, "padding": None, "post_processor": None, "decoder": _DECODER}
    ordered["added_tokens"] = sorted(raw["added_tokens"], key=lambda token: token["id"])
    return TokenizerFile(_packed(ordered), token_bytes, special_ids)


def _packed(raw: dict[str, Any]) -> bytes:
    return json.dumps(raw, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"
