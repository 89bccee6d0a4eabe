"""The YAML form of a vocabulary: the same settings and tokens, for people to read and to edit."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stentor.artifacts import write_file
from stentor.errors import CorruptArtifactError, UserError, missing_extra
from stentor.tokenizer.tokenmonster.build import build_vocab
from stentor.tokenizer.tokenmonster.normalize import NAMES, SYNONYMS, normalize
from stentor.tokenizer.tokenmonster.records import Token
from stentor.tokenizer.tokenmonster.reference import capcode
from stentor.tokenizer.tokenmonster.rules import check_rules
from stentor.tokenizer.tokenmonster.vocab_file import (
    CHARSET_NONE,
    CHARSET_UTF8,
    MAX_FILE_BYTES,
    MAX_TOKEN_BYTES,
    MODES,
    NONE,
    DeletedToken,
    Settings,
    VocabFile,
)

_MAX_DEPTH = 10
_CHARSETS = {"none": CHARSET_NONE, "utf-8": CHARSET_UTF8}
_RESERVE_KEYS = ("include-256-bytes", "include-128-bytes", "include-utf8-bytes", "include-ascii-bytes")
_RESERVE_KEYS += ("include-extended-bytes", "exclude-other-bytes")
_ESCAPES = {"\0": "\\0", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\v": "\\v", "\f": "\\f", "\r": "\\r"}
_ESCAPES |= {"\\": "\\\\", '"': '\\"'}
_HEX = re.compile(r"TokenMonsterHexEncode\{([0-9a-fA-F]*)\}")
_UNPRINTABLE = re.compile("[\x01-\x07\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


class _Wrong(Exception):  # noqa: N818 - never seen outside
    """What is wrong with the content, as half a sentence."""


def write_yaml(path: Path, vocab: VocabFile) -> None:
    """Write a vocabulary as YAML; scores are kept to nine digits, all that a file of either form holds."""
    write_file(path, "".join(_lines(vocab)))


def read_yaml(path: Path) -> VocabFile:
    """Read a vocabulary from YAML; its record table is built anew.

    Raises:
        UserError: it cannot be read.
        CorruptArtifactError: it is not YAML, or breaks a rule, which is named.
        MissingDependencyError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError:
        raise missing_extra("PyYAML", "hf", needed_for="reading a vocabulary from YAML") from None
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise _Wrong(f"it is longer than {MAX_FILE_BYTES >> 20} MiB")
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        _refuse_unlike(yaml, data, loader)
        vocab = _vocab(yaml.load(data, loader))
        if (rule := check_rules(vocab)) is not None:
            raise _Wrong(rule)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", fix="check the path and its permissions") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptArtifactError(f"{path} is not YAML: {what}", fix="mend it, or export the file again") from None
    except _Wrong as wrong:
        raise CorruptArtifactError(
            f"{path} is no vocabulary: {wrong}", fix="mend it, or export the file again"
        ) from None
    return vocab


def _lines(vocab: VocabFile) -> Iterator[str]:
    settings = vocab.settings
    names = [name for name, bit in NAMES.items() if settings.normalization & bit]
    charset = next(name for name, value in _CHARSETS.items() if value == settings.charset)
    yield f"charset: {charset!r}\nnormalization: {' '.join(names) or 'none'!r}\ncapcode: {settings.capcode}\n"
    yield f"training-param: {settings.reserve << 3 | settings.mode}\n"
    if vocab.unk_id != NONE:
        yield f"unk: true\nunk-id: {vocab.unk_id}\n"
    primary = [record for record in vocab.records if not record.is_duplicate]
    for key, is_special in (("tokens", False), ("special", True)):
        chosen = [record for record in primary if bool(record.flag & 64) == is_special]
        yield f"{key}:\n" if chosen else ""
        for record in chosen:
            yield _item(record.token, record.id, record.score)
    yield "delete:\n" if vocab.deleted else ""
    for token, token_id, score in vocab.deleted:
        yield _item(token, token_id, score)


def _item(token: bytes, token_id: int, score: float) -> str:
    lines = [f"    - token: {_quoted(token)}", "      encoded: true"]
    lines += [f"      id: {token_id}"] * (token_id != NONE) + [f"      score: {score:.9g}"] * (score > 0)
    return "\n".join(lines) + "\n"


def _quoted(token: bytes) -> str:
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return f'"TokenMonsterHexEncode{{{token.hex()}}}"'
    if _HEX.fullmatch(text) or _UNPRINTABLE.search(text):
        return f'"TokenMonsterHexEncode{{{token.hex()}}}"'
    return '"' + "".join(_ESCAPES.get(character, character) for character in text) + '"'


def _refuse_unlike(yaml: Any, data: bytes, loader: Any) -> None:
    """Refuse what no vocabulary has: references, which can stand for gigabytes, and depth, which takes minutes."""
    depth = 0
    for event in yaml.parse(data, loader):
        if isinstance(event, yaml.AliasEvent):
            raise _Wrong("it uses YAML aliases")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise _Wrong("it is nested too deeply")


def _vocab(raw: Any) -> VocabFile:
    if not isinstance(raw, dict):
        raise _Wrong("it holds no table of settings")
    settings = _settings(raw)
    entries = [(item, False) for item in _items(raw, "tokens")] + [(item, True) for item in _items(raw, "special")]
    if not entries:
        raise _Wrong("it holds no tokens")
    keeps_ids = raw.get("reset-token-ids") is not True and all("id" in item for item, _ in entries)
    tokens = {}
    for item, is_special in entries:
        token = _token_bytes(item, settings)
        if token in tokens:
            raise _Wrong(f"the token {token!r} appears twice")
        token_id = _number(item, "id", NONE) if keeps_ids else NONE
        tokens[token] = Token(token, token_id, _score(item), is_special)
    if len({token.id for token in tokens.values()}) < len(tokens) and keeps_ids:
        raise _Wrong("two tokens have the same id")
    ordered = sorted(tokens.values(), key=lambda token: (len(token.token), token.token))
    if not keeps_ids:
        ordered = [token._replace(id=index) for index, token in enumerate(ordered)]
    unk_id = NONE
    if raw.get("unk") is True:
        unk_id = _number(raw, "unk-id", len(ordered)) if keeps_ids else len(ordered)
    deleted = [_deleted(item, settings) for item in _items(raw, "delete") if "token" in item]
    gone = {_number(item, "id", NONE) for item in _items(raw, "delete") if "token" not in item}
    kept = [token for token in ordered if token.id not in gone]
    if not kept:
        raise _Wrong("it deletes every token")
    return build_vocab(kept, settings, unk_id=unk_id, deleted=deleted)


def _settings(raw: dict[str, Any]) -> Settings:
    charset = raw.get("charset", "utf-8")
    if not isinstance(charset, str) or charset not in _CHARSETS:
        raise _Wrong(f"its charset is {charset!r}, and only {', '.join(map(repr, _CHARSETS))} can be read")
    capcode_level, training = _number(raw, "capcode", 2), _number(raw, "training-param", 5)
    if capcode_level > 2 or training & 7 >= len(MODES) or training >> 3 > 255:
        raise _Wrong(f"capcode is {capcode_level} and training-param {training}")
    if capcode_level and charset == "none":
        raise _Wrong("it has capcode without the charset utf-8")
    normalization = 0
    for word in str(raw.get("normalization", "none")).lower().split():
        name = SYNONYMS.get(word, word)
        if name not in NAMES and name != "none":
            raise _Wrong(f"there is no normalization {word!r}")
        normalization |= NAMES.get(name, 0)
    reserve = training >> 3
    for bit, key in enumerate(_RESERVE_KEYS):
        reserve |= (raw.get(key) is True) << bit
    return Settings(
        capcode=capcode_level,
        charset=_CHARSETS[charset],
        normalization=normalization,
        mode=training & 7,
        reserve=reserve,
    )


def _items(raw: dict[str, Any], key: str) -> list[dict[str, Any]]:
    items = raw.get(key) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _Wrong(f"{key!r} is no list of tokens")
    return items


def _token_bytes(item: dict[str, Any], settings: Settings) -> bytes:
    text = item.get("token")
    if not isinstance(text, str):
        raise _Wrong(f"a token is {text!r}, and not in quotes")
    encoded = _HEX.fullmatch(text)
    data = bytes.fromhex(encoded[1]) if encoded else text.encode(errors="replace")
    if item.get("encoded") is not True:
        data = capcode(normalize(data, settings.normalization), settings.capcode)
    if not 0 < len(data) <= MAX_TOKEN_BYTES:
        raise _Wrong(f"the token {text[:50]!r} takes {len(data)} bytes, and 1 to {MAX_TOKEN_BYTES} are possible")
    return data


def _deleted(item: dict[str, Any], settings: Settings) -> DeletedToken:
    return DeletedToken(_token_bytes(item, settings), _number(item, "id", NONE), _score(item))


def _number(item: dict[str, Any], key: str, default: int) -> int:
    value = item.get(key, default)
    if type(value) is not int or not 0 <= value <= NONE:
        raise _Wrong(f"{key} is {value!r}, and not a number below {NONE}")
    return value


def _score(item: dict[str, Any]) -> float:
    value = item.get("score", 0.0)
    if type(value) not in (int, float) or not 0 <= value < 1e30:
        raise _Wrong(f"a score is {value!r}")
    return struct.unpack("<f", struct.pack("<f", value))[0]
