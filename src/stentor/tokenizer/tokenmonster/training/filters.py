"""Which substrings may be tokens in each mode, compiled; `filters_reference.py` is the slow twin.

A candidate is judged with the kind of the character that follows it in the text: the same bytes may be wanted before
a space and unwanted before a letter. It comes as its code points and where each begins.

Reference: the filters of TokenMonster's `getalltokens`, described in docs/tokenmonster.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stentor.compiled import Bytes, Int, kernel
from stentor.tokenizer.tokenmonster.training.kinds import (
    ANGLE,
    APOSTROPHE,
    DELIMITER,
    EITHER,
    FOREIGN,
    LETTER,
    MARKER,
    NUMBER,
    PAIRS,
    SPACE,
)
from stentor.tokenizer.tokenmonster.utf8 import rune_at

UNFILTERED, CLEAN, BALANCED, CONSISTENT, STRICT = range(5)
_BLANK, _TAB, _LF, _CR, _DOT, _HYPHEN, _LOW_LINE, _COMMA = 0x20, 0x09, 0x0A, 0x0D, 0x2E, 0x2D, 0x5F, 0x2C
_D, _DELETE = ord("D"), 0x7F
_NONE = -1
_OPENERS, _CLOSERS = np.array(PAIRS, np.int64).T.copy()
_BRACKETS = np.array([ord(bracket) for bracket in "([{)]}"], np.int64)
_SMALL_PAIRS = np.array([[ord(opener), ord(closer)] for opener, closer in ("()", "[]", "{}", '""', "''")], np.int64)
Codes = NDArray[np.int64]


@kernel
def decode(data: Bytes, start: Int, end: Int, codes: Codes, offsets: Codes) -> tuple[Int, Int]:
    """Write the code points of a substring and where each begins; return how many, and whether all are whole."""
    count, position, is_valid = 0, start, True
    while position < end:
        code, width = rune_at(data, position, end)
        is_valid = is_valid and (width > 1 or data[position] < 0x80)
        codes[count], offsets[count] = code, position - start
        count, position = count + 1, position + width
    offsets[count] = end - start
    return count, is_valid


@kernel
def is_latin(codes: Codes, count: Int, kinds: Bytes) -> bool:
    """Whether no letter is of another script."""
    for index in range(count):  # noqa: SIM110 - a generator cannot be compiled
        if kinds[codes[index]] & FOREIGN:
            return False
    return True


@kernel
def passes(codes: Codes, offsets: Codes, count: Int, kinds: Bytes, mode: Int, level: Int, follower: Int) -> bool:
    """Whether a mode wants a candidate before a character of the kind `follower`."""
    if offsets[count] < 2:
        return False
    if mode == UNFILTERED:
        return True
    if mode == CLEAN:
        return _clean(codes, offsets, count, kinds, level, follower)
    if mode == BALANCED:
        return _balanced(codes, offsets, count, kinds, level, follower)
    return _separated(codes, offsets, count, kinds, mode == CONSISTENT, follower)


# --- clean and balanced ---

_HAS_ANY, _HAS_ALPHA, _HAS_LETTER, _HAS_MARKER, _HAS_OTHER = (1 << bit for bit in range(5))
_BEGINS_SPACE, _LEADS, _ENDS_SPACE, _DOUBLED, _REJECTED = (1 << bit for bit in range(5, 10))


@kernel
def _survey(codes: Codes, offsets: Codes, count: Int, kinds: Bytes, is_clean: bool) -> tuple[Int, Int, Int, Int]:
    """Return what is found (as bits), and how many space characters, line ends or tabs, and runs of space there are.

    A marker of capcode does not end a run of space; a leading single space is not counted.
    """
    found, spaces, lines, runs = 0, 0, 0, 0
    for index in range(count):
        code = codes[index]
        kind = kinds[code]
        if kind & EITHER:
            found |= _HAS_ANY | _HAS_ALPHA
            if kind & LETTER:
                found |= _HAS_LETTER
        elif kind & MARKER:
            found |= _HAS_MARKER
            continue
        elif kind & DELIMITER:
            found |= _HAS_ANY
        elif kind & SPACE:
            if offsets[index] == 0:
                found |= _BEGINS_SPACE | (_LEADS if code == _BLANK else 0)
            elif offsets[index] == 1:
                found &= ~_LEADS
            spaces += 1
            lines += code in (_LF, _CR, _TAB)
            if found & _ENDS_SPACE:
                found |= _DOUBLED
                if found & _HAS_ALPHA and not (is_clean and spaces == lines):
                    found |= _REJECTED
            else:
                runs += 1
            found |= _ENDS_SPACE
            continue
        else:
            found |= _HAS_OTHER
        found &= ~_ENDS_SPACE
    if found & _LEADS:
        spaces, runs = spaces - 1, runs - 1
    return found, spaces, lines, runs


@kernel
def _is_loose(found: Int, spaces: Int, lines: Int, runs: Int, size: Int) -> bool:
    """Whether space is neither one run of line ends nor nearly everything."""
    is_lines = spaces == lines and runs <= 1
    is_space = spaces >= size - 1 and not (found & _ENDS_SPACE and found & _BEGINS_SPACE)
    return not is_lines and not is_space


@kernel
def _clean(codes: Codes, offsets: Codes, count: Int, kinds: Bytes, level: Int, follower: Int) -> bool:
    kept = count
    while kept > 0 and codes[kept - 1] in (_LF, _CR):
        kept -= 1
    was_cut = kept < count
    if offsets[kept] <= 1:
        kept = count
    found, spaces, lines, runs = _survey(codes, offsets, kept, kinds, True)
    if found & _REJECTED:
        return False
    last = codes[kept - 1]
    has_other = found & _HAS_OTHER != 0
    if found & _DOUBLED and (found & _HAS_ANY or (has_other and runs > 1)):
        if last == _BLANK and has_other and not was_cut:
            return False
        if found & (_ENDS_SPACE | _BEGINS_SPACE) == 0 and spaces > 3:
            return False
        if _is_loose(found, spaces, lines, runs, offsets[kept]):
            return False
    if level > 0 and last == _BLANK and not was_cut:
        return not (found & (_HAS_ALPHA | _HAS_MARKER | _HAS_ANY) or (has_other and follower & EITHER))
    return True


@kernel
def _balanced(codes: Codes, offsets: Codes, count: Int, kinds: Bytes, level: Int, follower: Int) -> bool:
    found, spaces, lines, runs = _survey(codes, offsets, count, kinds, False)
    if found & _REJECTED:
        return False
    last = codes[count - 1]
    if found & _LEADS:
        found &= ~_BEGINS_SPACE
    if last in (_LF, _CR):
        runs -= 1
    has_any, has_other, has_alpha = found & _HAS_ANY != 0, found & _HAS_OTHER != 0, found & _HAS_ALPHA != 0
    if found & _DOUBLED and (has_any or (has_other and runs > 1)):
        if has_alpha or (last == _BLANK and has_other):
            return False
        if has_any and (spaces > 5 or (spaces > 3 and spaces != lines)):
            return False
        if _is_loose(found, spaces, lines, runs, offsets[count]):
            return False
    if level == 2 and has_alpha and kinds[last] & MARKER and not _marker_may_end(codes, offsets, count):
        return False
    if level > 0 and (has_alpha or found & _HAS_MARKER) and kinds[last] & SPACE:
        return False
    if level > 0 and (has_other or has_any) and last == _BLANK:
        return False
    if not (found & _HAS_LETTER and follower & LETTER):
        return True
    return not _breaks_a_word(codes[0], spaces, found & _LEADS != 0)


@kernel
def _marker_may_end(codes: Codes, offsets: Codes, count: Int) -> bool:
    """Whether a full stop or a hyphen stands before the marker at the end, or before it and a delete marker."""
    if offsets[count] < 3:
        return False
    before, before_that = codes[count - 2], codes[count - 3] if count >= 3 else _NONE
    if before in (_DOT, _HYPHEN):
        return True
    return before in (_D, _DELETE) and before_that in (_DOT, _HYPHEN)


@kernel
def _breaks_a_word(first: Int, spaces: Int, leads: bool) -> bool:
    """Whether a whole word and a part of the next one are in a candidate that a letter follows."""
    return spaces >= 2 or (leads and spaces >= 1) or (first != _BLANK and (spaces == 1 or (spaces == 0 and leads)))


# --- consistent and strict ---


@kernel
def _separated(codes: Codes, offsets: Codes, count: Int, kinds: Bytes, is_consistent: bool, follower: Int) -> bool:
    if count == 1:
        return True
    first, last, is_peeled = 0, count, False
    if is_consistent:
        first, last = _peeled(codes, count)
        is_peeled = last < count
        if last - first <= 1:
            return True
        if kinds[codes[first]] & MARKER and (codes[first + 1] == _BLANK or kinds[codes[first + 1]] & MARKER):
            first += 1 if codes[first + 1] == _BLANK else 2
            if last - first <= 1:
                return True
    end = last
    if is_consistent and kinds[codes[last - 1]] & (EITHER | SPACE | DELIMITER | MARKER) == 0:
        end -= 1
    is_after_blank = codes[first] == _BLANK
    kind1, kind2 = kinds[codes[first]], kinds[codes[first + 1]]
    if is_after_blank and kind2 & LETTER:
        return _words(codes, first + 2, end, kinds, is_consistent, follower)
    if kind1 & NUMBER or (is_after_blank and kind2 & NUMBER):
        return (is_after_blank or kind2 & NUMBER != 0) and _all_of(codes, first + 2, end, kinds, NUMBER)
    if kind1 & LETTER and kind2 & LETTER == 0:
        return False
    if kind1 & LETTER or (kind1 & APOSTROPHE and kind2 & LETTER):
        return _all_of(codes, first + 2, end, kinds, LETTER)
    if is_consistent:
        return _consistent_signs(codes, offsets, first, last, kinds, is_peeled)
    return _strict_signs(codes, offsets, count, kinds)


@kernel
def _peeled(codes: Codes, count: Int) -> tuple[Int, Int]:
    """Return what is inside the pair of delimiters, if they enclose the candidate, past a leading space."""
    opener = 1 if codes[0] == _BLANK else 0
    if opener + 1 < count:
        for pair in range(_OPENERS.size):
            if codes[opener] == _OPENERS[pair] and codes[count - 1] == _CLOSERS[pair]:
                return opener + 1, count - 1
    return 0, count


@kernel
def _all_of(codes: Codes, first: Int, end: Int, kinds: Bytes, kind: Int) -> bool:
    for index in range(first, end):  # noqa: SIM110 - a generator cannot be compiled
        if kinds[codes[index]] & kind == 0:
            return False
    return True


@kernel
def _words(codes: Codes, first: Int, end: Int, kinds: Bytes, is_consistent: bool, follower: Int) -> bool:
    """Whether words may go on like this behind a space and a letter."""
    after_apostrophe, after_blank, has_blank, joint, code = False, False, False, 0, _NONE
    for index in range(first, end):
        code = codes[index]
        kind = kinds[code]
        is_blank, is_apostrophe = code == _BLANK, kind & APOSTROPHE != 0
        if (is_blank and after_blank) or (is_apostrophe and after_apostrophe):
            return False
        if is_blank or kind & LETTER or (is_consistent and kind & NUMBER):
            joint = 0
        elif not is_apostrophe:
            is_joint = code in (_HYPHEN, _DOT, _LOW_LINE)
            if not is_consistent or not ((is_joint and joint == 0) or kind & MARKER):
                return False
            if is_joint or 0 < joint < 3:
                joint += 1
        after_blank, after_apostrophe, has_blank = is_blank, is_apostrophe, has_blank or is_blank
    if code == _BLANK or (has_blank and follower & LETTER):
        return False
    if not is_consistent or code == _NONE:
        return True
    return not (code in (_DOT, _HYPHEN) or (kinds[code] & MARKER and joint <= 1))


@kernel
def _count_signs(
    codes: Codes, first: Int, last: Int, kinds: Bytes, delimiter: Int, line: Codes
) -> tuple[Int, Int, Int, Int, Int, Int, Int, Int]:
    """Count what is neither letter nor number.

    Returns:
        delimiters, markers, space, line ends, others, the longest run of space, the number of such runs, and where
        the last delimiter stands; -1 delimiters where the candidate must be rejected.
    """
    delimiters, markers, spaces, lines, others, longest, runs, run, at = 0, 0, 0, 0, 0, 0, 0, 0, first
    after_space, saw_angle = False, False
    for index in range(first, last):
        code = codes[index]
        kind = kinds[code]
        if kind & EITHER:
            return -1, 0, 0, 0, 0, 0, 0, 0
        if kind & delimiter:
            delimiters, at, after_space = delimiters + 1, index, False
        elif kind & MARKER:
            markers += 1
        elif kind & SPACE:
            spaces += 1
            lines += code == line[0] or code == line[1] or code == line[2]
            runs += not after_space
            run = run + 1 if after_space else 1
            longest, after_space = max(longest, run), True
        else:
            others, after_space = others + 1, False
            if saw_angle and code == 0x3C:
                return -1, 0, 0, 0, 0, 0, 0, 0
            saw_angle = saw_angle or code == 0x3E
    return delimiters, markers, spaces, lines, others, longest, runs, at


_CONSISTENT_LINES, _STRICT_LINES = np.array([_LF, _CR, _TAB]), np.array([_LF, _CR, _LF])


@kernel
def _consistent_signs(codes: Codes, offsets: Codes, first: Int, last: Int, kinds: Bytes, is_peeled: bool) -> Any:
    counted = _count_signs(codes, first, last, kinds, DELIMITER | ANGLE, _CONSISTENT_LINES)
    delimiters, markers, spaces, lines, others, longest, runs, at = counted
    if delimiters < 0:
        return False
    size, end, has_signs = offsets[last] - offsets[first], codes[last - 1], delimiters + markers + others > 0
    if end == _BLANK and has_signs:
        return False
    if kinds[end] & MARKER and (size == 2 or (size <= 4 and markers == 2) or others + delimiters == 0):
        return True
    if longest > 1 and has_signs and (spaces != lines or others + delimiters > 3 or runs > 1):
        return False
    if delimiters == 0:
        return True
    if delimiters > 1 or is_peeled or not _bracket_may_stand(codes, first, last, at):
        return False
    one, two = codes[first], codes[first + 1]
    if kinds[one] & DELIMITER:
        return size <= 3 and spaces <= 1
    return others + spaces + markers <= 1 or (size == 3 and (one == _BLANK or two == _BLANK)) or one == _TAB


@kernel
def _bracket_may_stand(codes: Codes, first: Int, last: Int, at: Int) -> bool:
    """Whether only commas, full stops and blanks stand outside a bracket."""
    start, end = first, first
    for index in range(_BRACKETS.size):
        if codes[at] == _BRACKETS[index]:
            start, end = (first, at) if index < 3 else (at + 1, last)
    for index in range(start, end):
        code = codes[index]
        if code not in (_COMMA, _DOT, _BLANK, _LF, _CR):
            return False
    return True


@kernel
def _strict_pair(one: Int, two: Int, kinds: Bytes) -> bool:
    """Whether two bytes are a pair of delimiters, or a comma or a full stop and something."""
    for pair in range(_SMALL_PAIRS.shape[0]):
        if one == _SMALL_PAIRS[pair, 0] and two == _SMALL_PAIRS[pair, 1]:
            return True
    return (one in (_COMMA, _DOT) or two == _COMMA) and kinds[two] & SPACE == 0


@kernel
def _strict_signs(codes: Codes, offsets: Codes, count: Int, kinds: Bytes) -> bool:
    one, end, size = codes[0], codes[count - 1], offsets[count]
    if size == 2 and _strict_pair(one, codes[1], kinds):
        return True
    counted = _count_signs(codes, 0, count, kinds, DELIMITER, _STRICT_LINES)
    delimiters, markers, spaces, lines, others, longest, runs, _ = counted
    if delimiters < 0:
        return False
    if kinds[end] & MARKER and (size == 2 or (size == 3 and markers == 2)):
        return True
    if end == _BLANK and spaces != size:
        return False
    if longest > 1 and delimiters + markers + others > 0:
        ends_well = end in (_LF, _CR) or kinds[end] & MARKER
        if spaces != lines or others > 1 or runs > 1 or not ends_well:
            return False
    if delimiters == 0:
        return True
    if delimiters > 1:
        return False
    if others + spaces + markers == 0 or (others + spaces == 1 and one == _BLANK):
        return True
    return others + spaces + markers == 1 and kinds[one] & SPACE != 0 and one != _TAB
