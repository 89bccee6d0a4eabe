"""Read a tokenizer.json of byte-level BPE and refuse every file whose ids could surprise.

Rules, each of which Stentor, transformers and llama.cpp need to agree on every id and to get every byte back:
one byte-level BPE model without randomness; no normalizer; nothing that drops or adds text; ids 0 .. n-1, each
for one token; all 256 single bytes; every added token special.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

from stentor.errors import CorruptArtifactError, UserError
from stentor.json_text import parse_json

_PRE_TOKENIZERS = {"ByteLevel", "Split", "Digits", "Punctuation"}


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """A checked tokenizer.json.

    Attributes:
        json_bytes: the canonical file: equal vocabularies have equal bytes, whoever wrote them.
        token_bytes: what each id stands for; nothing for a special token.
        special_ids: special tokens by their spelling.
    """

    json_bytes: bytes
    token_bytes: list[bytes]
    special_ids: dict[str, int]


def parse_bpe_file(data: bytes, where: str) -> TokenizerFile:
    """Check a tokenizer.json and bring it into canonical form.

    Args:
        data: the file.
        where: its name, for messages.

    Raises:
        CorruptArtifactError: it is not JSON.
        UserError: it breaks a rule; the rule is named.
    """
    return check_file(data, where, "byte-level BPE", _checked)


def check_file(data: bytes, where: str, family: str, check: Callable[[dict[str, Any]], TokenizerFile]) -> TokenizerFile:
    """Read JSON and let `check` look at it; whatever is wrong becomes one sentence that names the rule.

    Raises:
        CorruptArtifactError: it is not JSON.
        UserError: it breaks a rule; the rule is named.
    """
    try:
        raw = parse_json(data)
    except ValueError as error:
        raise CorruptArtifactError(
            f"{where} is damaged: it is not JSON ({error})", fix="copy or make this tokenizer again"
        ) from None
    try:
        return check(raw)
    except BrokenRuleError as broken:
        _refuse(where, family, str(broken))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        _refuse(where, family, f"a part is missing or of the wrong type ({type(error).__name__}: {error})")


def _checked(raw: dict[str, Any]) -> TokenizerFile:
    special_ids = read_special_ids(raw)
    _check_parts(raw)
    tokens = _tokens_by_id(raw["model"]["vocab"], special_ids)
    return TokenizerFile(_canonical(raw), read_token_bytes(tokens, special_ids), special_ids)


@cache
def byte_alphabet() -> dict[str, int]:
    """Return the character that stands for each byte in byte-level vocabularies.

    Printable Latin-1 stands for itself; the other 68 bytes take the code points from U+0100 on, in order.

    Reference: the vocabulary of GPT-2 (Radford et al. 2019), kept by every byte-level BPE since.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


class BrokenRuleError(Exception):
    """The file breaks the rule in the message."""


def _refuse(where: str, family: str, rule: str) -> NoReturn:
    raise UserError(
        f"{where} is no {family} that Stentor can use: {rule}",
        fix="use a tokenizer made by `stentor tokenizer train`, or another byte-level BPE without a normalizer",
    ) from None


def require(holds: bool, rule: str) -> None:
    """Break off with a rule that does not hold."""
    if not holds:
        raise BrokenRuleError(rule)


def read_special_ids(raw: dict[str, Any]) -> dict[str, int]:
    """Return the added tokens, all of which must be special, by their spelling."""
    special_ids: dict[str, int] = {}
    for token in raw.get("added_tokens") or []:
        content = token["content"]
        require(isinstance(content, str) and content != "", f"an added token is spelt {content!r}")
        require(token.get("special") is True, f"the added token {content!r} is not special")
        require(content not in special_ids, f"the special token {content!r} is listed twice")
        special_ids[content] = token["id"]
    return special_ids


def _check_parts(raw: dict[str, Any]) -> None:
    model = raw["model"]
    require(model.get("type") == "BPE", f"its model is {model.get('type')!r}, not 'BPE'")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        require(not model.get(name), f"its model sets {name}")
    require(raw.get("normalizer") is None, "it has a normalizer, so text would not come back as it went in")
    pre_tokenizer = raw["pre_tokenizer"]
    is_sequence = pre_tokenizer["type"] == "Sequence"
    steps = pre_tokenizer["pretokenizers"] if is_sequence else [pre_tokenizer]
    kinds = [step["type"] for step in steps]
    require(kinds.count("ByteLevel") == 1, "its pre_tokenizer has not exactly one ByteLevel step")
    for step in steps:
        require(step["type"] in _PRE_TOKENIZERS, f"its pre_tokenizer has a step {step['type']!r}")
        require(step.get("behavior") != "Removed", "its pre_tokenizer removes text")
        require(not step.get("add_prefix_space"), "its pre_tokenizer adds a space in front")
    require((raw.get("decoder") or {}).get("type") == "ByteLevel", "its decoder is not ByteLevel")


def _tokens_by_id(vocab: dict[str, int], special_ids: dict[str, int]) -> list[str]:
    """Return the spelling of ids 0 .. n-1."""
    for content, token_id in special_ids.items():
        require(vocab.get(content, token_id) == token_id, f"the special token {content!r} has two ids")
    spelling: dict[int, str] = {}
    for token, token_id in {**vocab, **special_ids}.items():
        require(type(token_id) is int and token_id >= 0, f"the token {token!r} has the id {token_id!r}")
        other = spelling.setdefault(token_id, token)
        require(other == token, f"the id {token_id} stands for both {other!r} and {token!r}")
    hole = next((token_id for token_id in range(len(spelling)) if token_id not in spelling), None)
    require(hole is None, f"no token has the id {hole}, though there are {len(spelling)} tokens")
    return [spelling[token_id] for token_id in range(len(spelling))]


def read_token_bytes(tokens: list[str], special_ids: dict[str, int]) -> list[bytes]:
    """Return the bytes of tokens in the byte-level alphabet, which must have every single byte."""
    alphabet = byte_alphabet()
    token_bytes: list[bytes] = []
    for token in tokens:
        if token in special_ids:
            token_bytes.append(b"")
            continue
        require(token != "", "a token is empty")
        foreign = next((character for character in token if character not in alphabet), None)
        require(foreign is None, f"the token {token!r} is not written in the byte-level alphabet")
        token_bytes.append(bytes(alphabet[character] for character in token))
    known = set(token_bytes)
    missing = next((byte for byte in range(256) if bytes([byte]) not in known), None)
    require(missing is None, f"the byte {missing} has no token of its own")
    return token_bytes


def _canonical(raw: dict[str, Any]) -> bytes:
    """Order keys, and leave out what would change ids behind the model's back: truncation, padding, an added BOS."""
    ordered = json.loads(
        json.dumps({**raw, "truncation": None, "padding": None, "post_processor": None}, sort_keys=True)
    )
    ordered["added_tokens"].sort(key=lambda token: token["id"])
    model = ordered["model"]
    model["vocab"] = dict(sorted(model["vocab"].items(), key=lambda entry: entry[1]))
    model["merges"] = [_merge(merge) for merge in model["merges"]]
    return json.dumps(ordered, ensure_ascii=False, indent=1).encode() + b"\n"


def _merge(merge: Any) -> list[str]:
    """Read a merge as a pair; files from before 2024 write it as one string with a space."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return [left, right]
