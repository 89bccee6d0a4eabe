"""Build the record table that the encoder walks over from nothing but the tokens and their ids.

Byte for byte what the original writes. Characters are classed by Unicode 13; at capcode 2 the markers C, D and W
are no letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from stentor.tokenizer.tokenmonster.unicode13 import LETTER, MARK, NUMBER, SPACE, class_of, runes
from stentor.tokenizer.tokenmonster.vocab_file import DUPLICATE_SCORE, MAX_TOKEN_BYTES, NONE, Record, Settings

(
    ENDS_WITH_LETTER,
    BEGINS_WITH_LETTER,
    BEGINS_WITH_SPACE,
    ENDS_WITH_MARKER,
    BEGINS_WITH_MARKER,
    WHOLE_WORD,
    SPECIAL,
    HOMOGENEOUS,
) = (1 << bit for bit in range(8))
SPACE_RUNE, UNDERSCORE, NO_RUNE = 0x20, 0x5F, 0xFFFD
BEGIN_SPACE, BEGIN_LETTER, BEGIN_OTHER_KIND, BEGIN_OTHER = range(4)
BEGIN_BYTE_OF_CLASS = {BEGIN_LETTER: 1, BEGIN_SPACE: 12, BEGIN_OTHER: 10}
"""In the order they are tried; a byte that begins numbers most often, or no kind most often, is 0."""


class Token(NamedTuple):
    """One entry of a token list."""

    token: bytes
    id: int
    score: float = 0.0
    is_special: bool = False


class Shape(NamedTuple):
    """What the look-ahead wants to know of a token."""

    flag: int
    num_words: int
    begin: int
    min_alternative: int


def primary_tokens(records: Iterable[Record]) -> list[Token]:
    """Return the token list that a record table was made from."""
    return [Token(r.token, r.id, r.score, bool(r.flag & SPECIAL)) for r in records if not r.is_duplicate]


def build_records(tokens: Sequence[Token], settings: Settings) -> tuple[tuple[Record, ...], bytes]:
    """Return the record table of a token list, and the table of first bytes."""
    classes = Classes(settings.capcode)
    spellings = {token.token: token for token in tokens}
    for token in tokens:
        prefixed = settings.delete_marker + b" " + token.token
        if settings.capcode and classes.takes_prefix(token.token) and len(prefixed) <= MAX_TOKEN_BYTES:
            spellings.setdefault(prefixed, Token(prefixed, token.id, DUPLICATE_SCORE, token.is_special))
    ordered = sorted(spellings.values(), key=lambda token: (len(token.token), token.token))
    index_of = {token.token: index for index, token in enumerate(ordered)}
    counts = [[0] * 4 for _ in range(256)]
    records = []
    for entry in ordered:
        if entry.is_special:
            records.append(Record(entry.token, SPECIAL, 0, NONE, NONE, entry.id, entry.score))
            continue
        codes = [code for code, _ in runes(entry.token)]
        shape = classes.shape(codes)
        counts[entry.token[0]][shape.begin] += 1
        alternatives = _alternatives(entry.token, shape.min_alternative, index_of, classes)
        records.append(Record(entry.token, shape.flag, shape.num_words, *alternatives, entry.id, entry.score))
    return tuple(records), bytes(map(_begin_byte, counts))


class Classes:
    """Classes of characters as a capcode level sees them."""

    def __init__(self, capcode: int) -> None:
        self.capcode = capcode
        self.markers = {0: b"", 1: b"\x7f", 2: b"CDW"}[capcode]

    def is_marker(self, code: int) -> bool:
        """Whether this is a marker of capcode."""
        return code < 0x80 and code in self.markers

    def is_letter(self, code: int) -> bool:
        """Whether this is a letter or a mark on one."""
        return bool(class_of(code) & (LETTER | MARK)) and not self.is_marker(code)

    def is_number(self, code: int) -> bool:
        """Whether this is a number of any kind."""
        return bool(class_of(code) & NUMBER)

    def is_either(self, code: int) -> bool:
        """Whether this is a letter, a mark or a number."""
        return self.is_letter(code) or self.is_number(code)

    def takes_prefix(self, token: bytes) -> bool:
        """Whether a token may stand right behind another word, so that it needs a second spelling."""
        return self.is_either(next(runes(token))[0])

    def shape(self, codes: Sequence[int]) -> Shape:
        """Return flag, number of words, class of the first character and the shortest alternative."""
        first, last = codes[0], codes[-1]
        flag, begin, num_words, min_alternative = 0, BEGIN_OTHER, 0, 1
        if first == SPACE_RUNE:
            flag, begin = BEGINS_WITH_SPACE, BEGIN_SPACE
            if len(codes) > 1 and self.is_either(codes[1]):
                num_words, min_alternative = 1, 2
        elif self.is_letter(first):
            flag, begin = BEGINS_WITH_LETTER, BEGIN_LETTER
        elif self.is_marker(first):
            flag = BEGINS_WITH_MARKER | (BEGINS_WITH_SPACE if first in b"CW" else 0)
        elif self.is_number(first):
            begin = BEGIN_OTHER_KIND
        more_words, letters, homogeneous = self._kinds(codes)
        num_words += more_words
        if min_alternative == 2:
            if self.is_letter(last) and letters and num_words == 1:
                flag |= WHOLE_WORD
            if num_words <= 1:
                min_alternative = 1
        flag |= ENDS_WITH_MARKER if self.is_marker(last) else 0
        flag |= ENDS_WITH_LETTER if self.is_letter(last) else 0
        return Shape(flag | (HOMOGENEOUS if homogeneous else 0), num_words, begin, min_alternative)

    def _kinds(self, codes: Sequence[int]) -> tuple[int, bool, bool]:
        """Return the words that begin inside, whether all is letters, and whether all is of one kind."""
        if len(codes) == 1 and codes[0] < 0x80:
            return 0, False, True
        first, second = codes[0], codes[1] if len(codes) > 1 else NO_RUNE
        letters = numbers = others = False
        if (first == SPACE_RUNE or self.is_letter(first)) and self.is_letter(second):
            letters = True
        elif (first == SPACE_RUNE or self.is_number(first)) and self.is_number(second):
            numbers = True
        elif not self.is_either(first) and not self.is_either(second):
            others = True
        num_words = 0
        for before, code in pairwise(codes[1:]):
            num_words += before == SPACE_RUNE and self.is_either(code)
            if self.is_letter(code):
                numbers = others = False
            elif self.is_number(code):
                letters = others = False
            elif code != SPACE_RUNE:
                letters = numbers = False
        return num_words, letters, letters or numbers or others


def _begin_byte(counts: Sequence[int]) -> int:
    for begin, value in BEGIN_BYTE_OF_CLASS.items():
        if counts[begin] > 2 and all(counts[begin] > count for kind, count in enumerate(counts) if kind != begin):
            return value
    return 0


class _Slots:
    """The two best shorter prefixes so far: (index, length, priority) each."""

    def __init__(self) -> None:
        self.first, self.second = (NONE, 0, 0), (NONE, 0, 0)

    def offer(self, index: int, length: int, priority: int) -> None:
        """Put a prefix in the slot that is worth less, if it is worth more."""
        (_, length1, priority1), (_, length2, priority2) = self.first, self.second
        if priority1 < priority2 or (priority1 == priority2 and length1 <= length2):
            if priority1 < priority:
                self.first = (index, length, priority)
        elif priority2 < priority:
            self.second = (index, length, priority)

    def best_first(self) -> tuple[int, int]:
        """Return the indexes of the two alternatives."""
        (index1, length1, priority1), (index2, length2, priority2) = self.first, self.second
        if index2 != NONE and (priority2, length2) > (priority1, length1):
            return index2, index1
        return index1, index2


def _alternatives(token: bytes, shortest: int, index_of: Mapping[bytes, int], classes: Classes) -> tuple[int, int]:
    slots, suffix = _Slots(), suffix_at(token, classes)
    for length in range(len(token) - 1, shortest - 1, -1):
        if (index := index_of.get(token[:length])) is not None:
            priority, is_last = cut_priority(token, length, suffix, classes)
            slots.offer(index, length, priority)
            if is_last:
                break
    return slots.best_first()


def suffix_at(token: bytes, classes: Classes) -> int:
    """Return where the 's at the end of a token begins, if a letter stands before it; else -1."""
    for suffix in (b"'s", "\u2019s".encode()):
        if token.endswith(suffix) and len(token) > len(suffix):
            return len(token) - len(suffix) if classes.is_letter(_last_rune(token[: -len(suffix)])) else -1
    return -1


def cut_priority(token: bytes, length: int, suffix: int, classes: Classes) -> tuple[int, bool]:
    """Return how good a cut is, and whether no shorter one may be tried."""
    before, after = _last_rune(token[:length]), _first_rune(token[length:])
    if length <= len(token) - 2 and after == SPACE_RUNE and classes.is_either(_first_rune(token[length + 1 :])):
        return 10, False
    is_word = {code: classes.is_letter(code) or code == UNDERSCORE for code in (before, after)}
    is_number = {code: classes.is_number(code) for code in (before, after)}
    is_space = {code: bool(class_of(code) & SPACE) for code in (before, after)}
    begins = (not is_word[before] and is_word[after]) or (not is_number[before] and is_number[after])
    if classes.capcode == 0 and begins:
        return 9, False
    ends_word = is_word[before] and not is_word[after] and not is_number[after]
    if ends_word or (is_number[before] and not is_number[after]):
        return 9, False
    if is_space[before] != is_space[after]:
        return (7, False) if is_space[before] else (8, False)
    if classes.is_marker(after):
        return 9, False
    return (8, True) if length == suffix else (1, False)


def _last_rune(data: bytes) -> int:
    *_, (code, _) = runes(data[-4:])
    return code


def _first_rune(data: bytes) -> int:
    return next(runes(data[:4]))[0]
