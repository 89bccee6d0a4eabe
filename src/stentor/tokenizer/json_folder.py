"""Open a tokenizer.json as folders carry it, with the names of its special tokens beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stentor.errors import CorruptArtifactError, UserError
from stentor.json_text import parse_json
from stentor.sealed import require_sealed
from stentor.tokenizer.bpe import BpeTokenizer
from stentor.tokenizer.bpe_file import TokenizerFile, parse_bpe_file
from stentor.tokenizer.library import CONFIG_FILE, TOKENIZER_FILE, LibraryTokenizer, SpecialTokens
from stentor.tokenizer.unigram import UnigramTokenizer
from stentor.tokenizer.unigram_file import is_unigram, parse_unigram_file

ROLES = ("eos", "bos", "pad")


def load_tokenizer_json(path: Path) -> LibraryTokenizer:
    """Open a folder that holds a tokenizer.json, or the file; its tokenizer_config.json names the special tokens.

    Raises:
        UserError: nothing is there, or a file breaks a rule; the rule is named.
        CorruptArtifactError: a file is damaged, or altered since its folder was sealed.
    """
    file = path / TOKENIZER_FILE if path.is_dir() else path
    if not file.is_file() or file.suffix != ".json":
        raise UserError(
            f"no tokenizer at {path}",
            fix=f"pass a folder that holds a {TOKENIZER_FILE}, or that file; `stentor tokenizer train` makes one",
        )
    data, where = _read_sealed(file), str(file)
    family, parse = (UnigramTokenizer, parse_unigram_file) if is_unigram(data) else (BpeTokenizer, parse_bpe_file)
    checked = parse(data, where)
    config = file.with_name(CONFIG_FILE)
    table = _read_table(config) if config.is_file() else None
    return family(checked, _special_tokens(table, checked, where), where)


def _read_sealed(file: Path) -> bytes:
    """Read a file; in a folder that Stentor sealed it must be the file that was sealed."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})", fix="check its permissions") from None
    require_sealed(file, data)
    return data


def _read_table(file: Path) -> dict[str, Any]:
    try:
        table = parse_json(_read_sealed(file))
    except ValueError as error:
        raise CorruptArtifactError(
            f"{file} is damaged: it is not JSON ({error})", fix="copy or make this tokenizer again"
        ) from None
    if not isinstance(table, dict):
        raise UserError(f"{file} holds no table of settings", fix="copy or make this tokenizer again")
    return table


def _special_tokens(table: dict[str, Any] | None, file: TokenizerFile, where: str) -> SpecialTokens:
    """Find EOS, BOS and PAD as the config names them; without a config, by Stentor's own spelling."""
    if table is None:
        own = SpecialTokens()
        named = {role: content for role in ROLES if (content := getattr(own, role)) in file.special_ids}
    else:
        named = {role: content for role in ROLES if (content := _spelling(table.get(f"{role}_token"))) is not None}
    for role, content in named.items():
        if not isinstance(content, str) or content not in file.special_ids:
            raise UserError(
                f"{where} has no special token {content!r}, which its {CONFIG_FILE} names as {role}_token",
                fix="use the two files that belong together",
            )
    if "eos" not in named:
        raise UserError(
            f"{where} does not say which token ends a document",
            fix=f"put its {CONFIG_FILE} with an eos_token beside it",
        )
    return SpecialTokens(named["eos"], named.get("bos", named["eos"]), named.get("pad", named["eos"]))


def _spelling(value: Any) -> Any:
    """Read a token as the config writes it: its spelling, or a table that holds it."""
    return value.get("content") if isinstance(value, dict) else value
