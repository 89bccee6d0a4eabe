"""The slow twin of `filters.py`: the rules of the five modes, one after the other, on plain Python strings.

Bytes that are not UTF-8 are read with `surrogateescape`, one character each.
"""

from __future__ import annotations

from itertools import pairwise

from stentor.tokenizer.tokenmonster.records import Classes
from stentor.tokenizer.tokenmonster.training.kinds import DELIMITERS, LATIN_LETTERS, PAIRS
from stentor.tokenizer.tokenmonster.unicode13 import LETTER, SPACE, class_of

MODES = ("unfiltered", "clean", "balanced", "consistent", "strict")
LINE_ENDS = ("\n", "\r")
APOSTROPHES = ("'", "\u2019")


class Filter:
    """The rules of one mode at one capcode level."""

    def __init__(self, mode: str, capcode: int) -> None:
        self.mode, self.capcode = mode, capcode
        self._classes = Classes(capcode)

    def accepts(self, candidate: bytes, follower: bytes) -> bool:
        """Whether the mode wants a candidate that this character follows in the text."""
        if len(candidate) < 2:
            return False
        text, after = (data.decode(errors="surrogateescape") for data in (candidate, follower))
        if self.mode == "unfiltered":
            return True
        if self.mode == "clean":
            return self._clean(text, after)
        if self.mode == "balanced":
            return self._balanced(text, after)
        return self._consistent(text, after) if self.mode == "consistent" else self._strict(text, after)

    def letter(self, character: str) -> bool:
        """Whether this is a letter or a mark, and no marker."""
        return self._classes.is_letter(_code(character))

    def number(self, character: str) -> bool:
        """Whether this is a number of any kind."""
        return self._classes.is_number(_code(character))

    def either(self, character: str) -> bool:
        """Whether this is a letter, a mark or a number."""
        return self.letter(character) or self.number(character)

    def marker(self, character: str) -> bool:
        """Whether this is a marker of capcode."""
        return self._classes.is_marker(_code(character))

    # --- clean and balanced ---

    def _clean(self, text: str, after: str) -> bool:
        shortened = text.rstrip("\r\n")
        was_cut = shortened != text
        if _size(shortened) <= 1:
            shortened = text
        seen = _Survey(self, shortened)
        end = shortened[-1]
        if any(spaces != lines for spaces, lines in seen.doubled_after_alpha):
            return False
        if seen.is_doubled and (seen.has_any or (seen.has_other and seen.runs > 1)):
            if end == " " and seen.has_other and not was_cut:
                return False
            if not seen.ends_in_space and not seen.begins_with_space and seen.spaces > 3:
                return False
            if seen.is_loose(_size(shortened), seen.begins_with_space):
                return False
        if self.capcode > 0 and end == " " and not was_cut:
            if seen.has_alpha or seen.has_marker or seen.has_any:
                return False
            if seen.has_other and after and self.either(after):
                return False
        return True

    def _balanced(self, text: str, after: str) -> bool:
        seen = _Survey(self, text)
        end = text[-1]
        if seen.doubled_after_alpha:
            return False
        begins_with_space = seen.begins_with_space and not seen.lead
        seen.runs -= end in LINE_ENDS
        if seen.is_doubled and (seen.has_any or (seen.has_other and seen.runs > 1)):
            if seen.has_alpha or (end == " " and seen.has_other):
                return False
            if seen.has_any and (seen.spaces > 5 or (seen.spaces > 3 and seen.spaces != seen.lines)):
                return False
            if seen.is_loose(_size(text), begins_with_space):
                return False
        if self.capcode == 2 and seen.has_alpha and self.marker(end):
            raw = text.encode(errors="surrogateescape")
            is_joined = raw[-2:-1] in (b".", b"-") or (raw[-2:-1] in (b"D", b"\x7f") and raw[-3:-2] in (b".", b"-"))
            if len(raw) < 3 or not is_joined:
                return False
        if self.capcode > 0 and (seen.has_alpha or seen.has_marker) and _is_space(end):
            return False
        if self.capcode > 0 and (seen.has_other or seen.has_any) and end == " ":
            return False
        if seen.has_letter and after and self.letter(after):
            one_word = seen.spaces == 1 or (seen.spaces == 0 and seen.lead)
            if seen.spaces >= 2 or (seen.lead and seen.spaces >= 1) or (one_word and text[0] != " "):
                return False
        return True

    # --- consistent and strict ---

    def _consistent(self, text: str, after: str) -> bool:
        if len(text) == 1:
            return True
        inner = _peel(text)
        is_peeled = inner is not None
        text = text if inner is None else inner
        if len(text) <= 1:
            return True
        if self.marker(text[0]) and text[1] == " ":
            text = text[1:]
        elif self.marker(text[0]) and self.marker(text[1]):
            text = text[2:]
        if len(text) <= 1:
            return True
        verdict = self._alphanumeric(text, self._without_last_sign(text), after)
        return self._consistent_signs(text, is_peeled) if verdict is None else verdict

    def _strict(self, text: str, after: str) -> bool:
        if len(text) == 1:
            return True
        verdict = self._alphanumeric(text, text, after)
        return self._strict_signs(text) if verdict is None else verdict

    def _without_last_sign(self, text: str) -> str:
        end = text[-1]
        keeps = self.either(end) or _is_space(end) or ord(end) in DELIMITERS or self.marker(end)
        return text if keeps else text[:-1]

    def _alphanumeric(self, text: str, stripped: str, after: str) -> bool | None:
        """Judge what begins with a letter or a number; None for all else."""
        one, two, rest = text[0], text[1], stripped[2:]
        if one == " " and self.letter(two):
            is_fine = self._consistent_words(rest) if self.mode == "consistent" else self._strict_words(rest)
            return is_fine and not (" " in rest and bool(after) and self.letter(after))
        if one == " " and self.number(two):
            return all(map(self.number, rest))
        if self.number(one):
            return self.number(two) and all(map(self.number, rest))
        if self.letter(one):
            return self.letter(two) and all(map(self.letter, rest))
        if one in APOSTROPHES and self.letter(two):
            return all(map(self.letter, rest))
        return None

    def _strict_words(self, rest: str) -> bool:
        if any(not (self.letter(character) or character == " " or character in APOSTROPHES) for character in rest):
            return False
        return "  " not in rest and not rest.endswith(" ") and not _two_apostrophes(rest)

    def _consistent_words(self, rest: str) -> bool:
        if "  " in rest or _two_apostrophes(rest):
            return False
        joint = 0
        for character in rest:
            if self.either(character) or character == " ":
                joint = 0
            elif character in APOSTROPHES:
                pass
            elif character in "-._" and joint == 0:
                joint = 1
            elif self.marker(character):
                joint = {0: 0, 1: 2, 2: 3, 3: 3}[joint]
            else:
                return False
        if not rest:
            return True
        return rest[-1] not in " .-" and not (self.marker(rest[-1]) and joint <= 1)

    def _consistent_signs(self, text: str, is_peeled: bool) -> bool:
        signs = _Signs(self, text, {*DELIMITERS, ord("<"), ord(">")}, "\n\r\t")
        if signs.has_alpha:
            return False
        size, end, has_signs = _size(text), text[-1], signs.others + signs.markers + signs.delimiters > 0
        if end == " " and has_signs:
            return False
        if self.marker(end) and (
            size == 2 or (size <= 4 and signs.markers == 2) or signs.others == signs.delimiters == 0
        ):
            return True
        is_mixed = signs.spaces != signs.lines or signs.others + signs.delimiters > 3 or signs.runs > 1
        if signs.longest_run > 1 and has_signs and is_mixed:
            return False
        if signs.delimiters == 0:
            return True
        if signs.delimiters > 1 or is_peeled:
            return False
        before, delimiter, behind = text.partition(signs.delimiter)
        outside = before if delimiter in "([{" else behind if delimiter in ")]}" else ""
        if any(character not in ",. \r\n" for character in outside):
            return False
        if ord(text[0]) in DELIMITERS:
            return size <= 3 and signs.spaces <= 1
        few = signs.others + signs.spaces + signs.markers <= 1
        return few or (size == 3 and " " in text[:2]) or text[0] == "\t"

    def _strict_signs(self, text: str) -> bool:
        size, end = _size(text), text[-1]
        if size == 2 and text in ("()", "[]", "{}", '""', "''"):
            return True
        if size == 2 and (text[0] in ",." or text[1] == ",") and not _is_space(text[1]):
            return True
        signs = _Signs(self, text, DELIMITERS, "\n\r")
        if signs.has_alpha or signs.has_reversed_angles:
            return False
        if self.marker(end) and (size == 2 or (size == 3 and signs.markers == 2)):
            return True
        if end == " " and signs.spaces != size:
            return False
        if signs.longest_run > 1 and signs.delimiters + signs.markers + signs.others > 0:
            ends_well = end in LINE_ENDS or self.marker(end)
            if signs.spaces != signs.lines or signs.others > 1 or signs.runs > 1 or not ends_well:
                return False
        if signs.delimiters == 0:
            return True
        if signs.delimiters > 1:
            return False
        others, markers = signs.others + signs.spaces, signs.markers
        if others + markers == 0 or (others == 1 and text[0] == " "):
            return True
        return others + markers == 1 and _is_space(text[0]) and text[0] != "\t"


class _Survey:
    """What clean and balanced ask of a candidate."""

    def __init__(self, rules: Filter, text: str) -> None:
        self.has_alpha = any(map(rules.either, text))
        self.has_letter = any(map(rules.letter, text))
        self.has_marker = any(map(rules.marker, text))
        self.has_any = self.has_alpha or any(ord(character) in DELIMITERS for character in text)
        plain = [character for character in text if not rules.either(character) and not rules.marker(character)]
        self.has_other = any(ord(character) not in DELIMITERS and not _is_space(character) for character in plain)
        self.begins_with_space = _is_space(text[0])
        self.lead = text[0] == " " and not (len(text) > 1 and _is_space(text[1]))
        self.spaces = self.lines = self.runs = 0
        self.doubled_after_alpha: list[tuple[int, int]] = []
        self.is_doubled = self.ends_in_space = False
        saw_alpha = False
        for character in text:
            saw_alpha = saw_alpha or rules.either(character)
            if rules.marker(character):
                continue
            if not _is_space(character):
                self.ends_in_space = False
                continue
            self.spaces += 1
            self.lines += character in "\n\r\t"
            if self.ends_in_space:
                self.is_doubled = True
                if saw_alpha:
                    self.doubled_after_alpha.append((self.spaces, self.lines))
            else:
                self.runs += 1
            self.ends_in_space = True
        self.spaces -= self.lead
        self.runs -= self.lead

    def is_loose(self, size: int, begins_with_space: bool) -> bool:
        """Whether space is neither one run of line ends nor nearly everything."""
        if self.spaces == self.lines and self.runs <= 1:
            return False
        return self.spaces < size - 1 or (self.ends_in_space and begins_with_space)


class _Signs:
    """What consistent and strict ask of a candidate that begins with neither letter nor number."""

    def __init__(self, rules: Filter, text: str, delimiters: frozenset[int] | set[int], line_ends: str) -> None:
        self.has_alpha = any(map(rules.either, text))
        found = [character for character in text if ord(character) in delimiters]
        self.delimiters, self.delimiter = len(found), found[-1] if found else " "
        self.markers = sum(map(rules.marker, text))
        self.spaces = sum(map(_is_space, text))
        self.lines = sum(character in line_ends for character in text)
        self.others = len(text) - self.delimiters - self.markers - self.spaces
        visible = "".join(" " if _is_space(character) else "x" for character in text if not rules.marker(character))
        lengths = [len(run) for run in visible.split("x") if run]
        self.longest_run, self.runs = max(lengths, default=0), len(lengths)
        self.has_reversed_angles = ">" in text and "<" in text[text.index(">") :]


def is_latin(candidate: bytes) -> bool:
    """Whether no letter is of another script."""
    for character in candidate.decode(errors="surrogateescape"):
        code = _code(character)
        if class_of(code) & LETTER and not any(first <= code <= last for first, last in LATIN_LETTERS):
            return False
    return True


def _code(character: str) -> int:
    """Return the code point; U+FFFD for a byte that is not UTF-8."""
    return 0xFFFD if "\udc80" <= character <= "\udcff" else ord(character)


def _size(text: str) -> int:
    return len(text.encode(errors="surrogateescape"))


def _is_space(character: str) -> bool:
    return bool(class_of(_code(character)) & SPACE)


def _two_apostrophes(text: str) -> bool:
    return any(one in APOSTROPHES and two in APOSTROPHES for one, two in pairwise(text))


def _peel(text: str) -> str | None:
    """Return what a pair of delimiters encloses, past a leading space; None where there is no pair."""
    opener = 1 if text[0] == " " else 0
    if opener + 1 < len(text) and (ord(text[opener]), ord(text[-1])) in PAIRS:
        return text[opener + 1 : -1]
    return None
