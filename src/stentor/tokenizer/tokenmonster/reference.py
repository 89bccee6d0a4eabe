"""Encode and decode slowly and obviously: the judge of the compiled path, written after the description alone."""

from __future__ import annotations

from typing import NamedTuple

from stentor.tokenizer.tokenmonster.normalize import normalize
from stentor.tokenizer.tokenmonster.unicode13 import (
    LETTER,
    LOWER,
    MARK,
    NUMBER,
    UPPER,
    class_of,
    runes,
    simple_lower,
    simple_upper,
)
from stentor.tokenizer.tokenmonster.vocab_file import NONE, VocabFile

APOSTROPHES = (0x27, 0x2019)
SPACE_RUNE, INVALID, DELETE_RUNE, DELETE_STAND_IN = 0x20, 0xFFFD, 0x7F, b"\x14"


def is_class(code: int, classes: int) -> bool:
    """Whether a code point is of one of these classes."""
    return bool(class_of(code) & classes)


# --- capcode ---------------------------------------------------------------------------------------------------


def capcode(data: bytes, level: int) -> bytes:
    """Return normalised text with its capitals and missing spaces spelt out."""
    if level == 0:
        return data
    return _capcode1(data) if level == 1 else _Capcode2().encode(data)


def _capcode1(data: bytes) -> bytes:
    out = bytearray()
    before = before_that = 0
    for code, raw in runes(data):
        if is_class(code, LETTER):
            joined = is_class(before, LETTER | MARK) or (before in APOSTROPHES and is_class(before_that, LETTER))
            out += b"" if before == SPACE_RUNE or joined else b"\x7f "
        elif is_class(code, NUMBER):
            out += b"" if before == SPACE_RUNE or is_class(before, NUMBER) else b"\x7f "
        out += DELETE_STAND_IN if code == DELETE_RUNE else raw
        before, before_that = code, before
    return bytes(out)


class _Capcode2:
    """A run of capitals starts as a `W` word; a small letter that joins it turns the marks into one `C` a letter."""

    def __init__(self) -> None:
        self.out: list[bytes] = []  # one rune or one byte of a marker each
        self.in_word = self.several = False
        self.word_marker = self.after_first = 0

    def encode(self, data: bytes) -> bytes:
        """Return level 2 capcode of a whole text."""
        before = before_that = 0
        for code, raw in runes(data):
            if self.in_word:
                self._inside(code, raw, before)
            else:
                self._outside(code, raw, before, before_that)
            before, before_that = code, before
        return b"".join(self.out)

    def _delete_space(self) -> None:
        self.out += [b"D", b" "]

    def _inside(self, code: int, raw: bytes, before: int) -> None:
        joined = is_class(before, LETTER | MARK) or before in APOSTROPHES
        if is_class(code, UPPER):
            if not joined:
                self._delete_space()
            self.several = True
            self.out.append(chr(simple_lower(code)).encode())
        elif is_class(code, LOWER):
            self.in_word = False
            self.out[self.word_marker] = b"C"
            if self.several:
                self._mark_each()
            if not joined:
                self._delete_space()
            self.out.append(raw)
        elif is_class(code, NUMBER):
            if not is_class(before, NUMBER):
                self._delete_space()
            self.out.append(raw)
        else:
            self.in_word = code in APOSTROPHES or is_class(code, MARK)
            self.out.append(raw)

    def _mark_each(self) -> None:
        run, marked, position = self.out[self.after_first :], list[bytes](), 0
        while position < len(run):
            is_marker = run[position : position + 2] == [b"D", b" "]
            position += 2 * is_marker
            is_lower = is_class(next(runes(run[position]))[0], LOWER)
            if is_marker or is_lower:
                marked += [b"D", b"C", b" "] if is_lower else [b"D", b" "]
            marked.append(run[position])
            position += 1
        self.out[self.after_first :] = marked

    def _outside(self, code: int, raw: bytes, before: int, before_that: int) -> None:
        if is_class(code, LOWER):
            after_apostrophe = before in APOSTROPHES and is_class(before_that, LETTER)
            if not (before == SPACE_RUNE or is_class(before, LOWER | MARK) or after_apostrophe):
                self._delete_space()
        elif is_class(code, UPPER):
            if before == SPACE_RUNE:
                self.out.pop()
            else:
                self.out.append(b"D")
            self.word_marker = len(self.out)
            self.out += [b"W", b" "]
            raw = chr(simple_lower(code)).encode()
            self.in_word, self.several, self.after_first = True, False, len(self.out) + 1
        elif is_class(code, NUMBER) and not (before == SPACE_RUNE or is_class(before, NUMBER)):
            self._delete_space()
        self.out.append(raw)


def uncapcode(data: bytes, level: int) -> bytes:
    """Return the text that capcoded bytes stand for."""
    if level == 0:
        return data
    return _uncapcode1(data) if level == 1 else _uncapcode2(data)


def _uncapcode1(data: bytes) -> bytes:
    out, skip = bytearray(), False
    for byte in data:
        if skip:
            skip = False
        elif byte == DELETE_RUNE:
            skip = True
        else:
            out.append(byte)
    return bytes(out)


def _uncapcode2(data: bytes) -> bytes:
    out = bytearray()
    char = word = delete = ignore = False
    for code, raw in runes(data):
        if raw == b"C":
            char, word = True, False
            continue
        if raw == b"W":
            word, char, ignore = True, False, True
            continue
        if raw == b"D":
            delete = True
            continue
        if delete:
            delete = False
        elif raw == b" ":
            out += raw
            word = word and ignore
        elif char:
            char = False
            out += _upper(code, raw)
        elif word:
            word = is_class(code, LOWER | UPPER | NUMBER | MARK) or code in APOSTROPHES
            out += _upper(code, raw) if is_class(code, LOWER | UPPER) else raw
        else:
            out += raw
        ignore = False
    return bytes(out)


def _upper(code: int, raw: bytes) -> bytes:
    return raw if code == INVALID else chr(simple_upper(code)).encode()


# --- the look-ahead --------------------------------------------------------------------------------------------


class _Branch(NamedTuple):
    score: int
    first: int
    first_length: int
    second: int
    second_length: int
    deletes: bool


class Reference:
    """A vocabulary, slowly."""

    def __init__(self, vocab: VocabFile) -> None:
        self.vocab = vocab
        self.records = vocab.records
        self.index_of = {record.token: index for index, record in enumerate(vocab.records)}
        self.pieces = vocab.pieces()

    def prepare(self, text: bytes) -> bytes:
        """Return text as the tokens spell it: normalised, then capcoded."""
        settings = self.vocab.settings
        return capcode(normalize(text, settings.normalization), settings.capcode)

    def encode(self, text: bytes) -> list[int]:
        """Return the ids of a text."""
        return self.tokenize(self.prepare(text))[0]

    def decode(self, ids: list[int]) -> bytes:
        """Return the text of ids; an id beyond the vocabulary stands for nothing."""
        pieces = b"".join(self.pieces[token_id] for token_id in ids if token_id < len(self.pieces))
        return uncapcode(pieces, self.vocab.settings.capcode)

    def tokenize(self, data: bytes) -> tuple[list[int], int]:
        """Return the ids of prepared text, and how many of its bytes no token covers."""
        ids: list[int] = []
        position = missing = 0
        while position < len(data):
            found = self._longest(data[position : position + self.vocab.max_token_bytes])
            if found is None:
                ids += [self.vocab.unk_id] if self.vocab.unk_id != NONE else []
                position, missing = position + 1, missing + 1
                continue
            (index, length), forward_delete = found, 0
            while (best := self._best(data, position, index, length, forward_delete)) is not None:
                ids.append(self.records[best.first].id)
                ids += [self.vocab.delete_id] if best.deletes else []
                position += best.first_length
                index, length, forward_delete = best.second, best.second_length, int(best.deletes)
            ids.append(self.records[index].id)
            position += length
        return ids, missing

    def _longest(self, window: bytes) -> tuple[int, int] | None:
        for length in range(len(window), 0, -1):
            if (index := self.index_of.get(window[:length])) is not None:
                return index, length
        return None

    def _begin(self, data: bytes, position: int) -> int:
        return self.vocab.begin_byte[data[position] if position < len(data) else 0]

    def _best(self, data: bytes, position: int, index: int, length: int, forward_delete: int) -> _Branch | None:
        """Return the best split of what lies ahead, the earliest of equals; None where the token stands as it is."""
        record = self.records[index]
        end = position + length
        if end >= len(data) or (record.flag & 32 and self._begin(data, end) == 12):
            return None
        firsts = [(index, length)]
        for alternative in (record.alt1, record.alt2):
            if alternative == NONE:
                break
            firsts.append((alternative, len(self.records[alternative].token) - forward_delete))
        plain: list[_Branch] = []
        deleting: list[_Branch] = []
        for is_alternative, (first, first_length) in enumerate(firsts):
            words = self.records[first].num_words - forward_delete
            whole = length if is_alternative else 0
            self._try(data, position, (first, first_length, words), whole, plain, deleting)
        return max(plain + deleting, key=lambda branch: branch.score, default=None)

    def _try(
        self,
        data: bytes,
        position: int,
        chosen: tuple[int, int, int],
        whole: int,
        plain: list[_Branch],
        deleting: list[_Branch],
    ) -> None:
        first, first_length, words = chosen
        start, limit = position + first_length, self.vocab.max_token_bytes
        if (found := self._longest(data[start : start + limit])) is None:
            return
        second, second_length = found
        follower = self._begin(data, start + second_length)
        flag1, flag2, words2 = self.records[first].flag, self.records[second].flag, self.records[second].num_words
        score = _score(flag1, flag2, words, words2, follower, first_length + second_length)
        score += ((flag2 >> 2) & 1) - 103 * (flag1 & 1 & (flag2 >> 1)) + _penalty(whole, first_length + second_length)
        plain.append(_Branch(score, first, first_length, second, second_length, False))
        if self.vocab.delete_id == NONE or not flag2 & 2 or follower != 1 or words2:
            return
        found = self._longest(b" " + data[start : start + limit - 1])
        if found is None or found[1] <= second_length + 1:
            return
        second, second_length = found[0], found[1] - 1
        follower = self._begin(data, start + second_length)
        flag2, words2, total = self.records[second].flag, self.records[second].num_words, first_length + second_length
        score = _score(flag1, flag2, words, words2, follower, total) - 103 * (flag1 & 1) - 1 + _penalty(whole, total)
        deleting.append(_Branch(score, first, first_length, second, second_length, True))


def _score(flag1: int, flag2: int, words1: int, words2: int, follower: int, total: int) -> int:
    return (
        total
        + (flag1 >> 7)
        + (flag2 >> 7)
        + max(0, words1 - 1)
        + max(0, words2 - 1)
        + ((follower >> 2) & 1)
        + 100 * (words1 + words2 + (follower >> 3))
        - 100 * ((flag1 >> 3) & 1 & (flag2 >> 4))
        - 3 * (flag2 & 1 & follower)
    )


def _penalty(whole: int, total: int) -> int:
    """Return what an alternative loses that covers no more than the whole token did (`whole` is 0 for that itself)."""
    if not whole or total > whole:
        return 0
    return -10_000 if total == whole else -100
