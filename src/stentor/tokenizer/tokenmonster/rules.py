"""The rules that tie the fields of a vocabulary together; whatever keeps them can be encoded with, and ends.

Everything in a record but its id and score follows from the token list (section by section in `records.py`), so
the table is built again and compared: a flipped bit anywhere but in a score is found.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from stentor.tokenizer.tokenmonster.records import build_records, primary_tokens
from stentor.tokenizer.tokenmonster.vocab_file import NONE, Record, VocabFile

MAX_SPARSITY, MAX_HOLES = 4, 1 << 16
"""No id may be higher than four times their number and this: else 300 bytes could ask for gigabytes."""


def check_rules(vocab: VocabFile) -> str | None:
    """Return the first rule that a vocabulary breaks, in words; None for a sound one."""
    rules: list[Callable[[VocabFile], str | None]] = [_scores, _ids, _unk, _delete_token, _table]
    return next((broken for rule in rules if (broken := rule(vocab)) is not None), None)


def _scores(vocab: VocabFile) -> str | None:
    for index, record in enumerate(vocab.records):
        if not (math.isfinite(record.score) and (record.score >= 0 or record.score == -1)):
            return f"record {index} has the score {record.score}"
    return None


def _ids(vocab: VocabFile) -> str | None:
    """Two records share an id only as a token and its duplicate, which the comparison of tables sees."""
    primary = [record.id for record in vocab.records if not record.is_duplicate]
    found = set(primary)
    if len(found) != len(primary):
        return "two tokens have the same id"
    if vocab.unk_id != NONE:
        found.add(vocab.unk_id)
    end_id = max(found, default=-1) + 1
    if len(found) != vocab.num_ids or end_id != vocab.end_id:
        return (
            f"its header says {vocab.num_ids} ids below {vocab.end_id}, and its records have {len(found)} below"
            f" {end_id}: there are holes"
        )
    if end_id > MAX_SPARSITY * len(found) + MAX_HOLES:
        return f"it has {len(found)} ids and the highest is {end_id - 1}: tables up to there would be nearly empty"
    return None


def _unk(vocab: VocabFile) -> str | None:
    if vocab.unk_id != NONE and any(record.id == vocab.unk_id for record in vocab.records):
        return f"the id {vocab.unk_id} of unknown bytes is that of a token, too"
    return None


def _delete_token(vocab: VocabFile) -> str | None:
    marker = vocab.settings.delete_marker
    expected = next((record.id for record in vocab.records if marker and record.token == marker), NONE)
    if vocab.delete_id != expected:
        return f"its header says that id {vocab.delete_id} is the delete marker, and it is {expected}"
    return None


def _table(vocab: VocabFile) -> str | None:
    rebuilt, begin_byte = build_records(primary_tokens(vocab.records), vocab.settings)
    if len(rebuilt) != len(vocab.records):
        return f"its tokens make {len(rebuilt)} records and it has {len(vocab.records)}: a second spelling is missing"
    for index, (found, expected) in enumerate(zip(vocab.records, rebuilt, strict=True)):
        for name, value, derived in zip(Record._fields, found, expected, strict=True):
            if value != derived:
                return f"record {index} ({found.token!r}) has {name} {value!r}, and the tokens make it {derived!r}"
    if begin_byte != vocab.begin_byte:
        return "its table of first bytes does not follow from its tokens"
    return None
