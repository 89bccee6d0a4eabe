"""Make a vocabulary from bare tokens: what the YAML form and a trainer have in hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stentor.tokenizer.tokenmonster.records import Token, build_records
from stentor.tokenizer.tokenmonster.vocab_file import NONE, DeletedToken, Settings, VocabFile


def build_vocab(
    tokens: Sequence[Token], settings: Settings, *, unk_id: int = NONE, deleted: Sequence[DeletedToken] = ()
) -> VocabFile:
    """Return the vocabulary of these tokens; ids are theirs.

    Args:
        tokens: each once, as prepared text spells them.
        settings: how text is prepared.
        unk_id: the id for bytes that no token covers, or NONE.
        deleted: tokens that were taken out, to be kept in the file.
    """
    records, begin_byte = build_records(tokens, settings)
    ids = {token.id for token in tokens} | ({unk_id} if unk_id != NONE else set())
    return VocabFile(
        settings=settings,
        records=records,
        begin_byte=begin_byte,
        unk_id=unk_id,
        num_ids=len(ids),
        end_id=max(ids) + 1,
        delete_id=next((token.id for token in tokens if token.token == settings.delete_marker), NONE),
        deleted=tuple(deleted),
    )


def numbered(tokens: Mapping[bytes, float], special: Sequence[bytes] = ()) -> list[Token]:
    """Return tokens with ids in the order of the table: by length, then bytes.

    Args:
        tokens: score by token.
        special: which of them are special tokens.
    """
    ordered = sorted(tokens, key=lambda token: (len(token), token))
    return [Token(token, index, tokens[token], token in special) for index, token in enumerate(ordered)]
