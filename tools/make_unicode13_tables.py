"""Write src/stentor/tokenizer/tokenmonster/unicode13.bin: what TokenMonster needs of Unicode 13.0.

Run with Python 3.9, whose own case tables are of Unicode 13.0 too:

    python3.9 -m venv /tmp/unicode13 && /tmp/unicode13/bin/pip install unicodedata2==13.0.0.post2
    /tmp/unicode13/bin/python tools/make_unicode13_tables.py

The file is one zlib stream of eleven sections, in the order of SECTIONS: u32 count, then that many u32, little-endian.
"""

from __future__ import annotations

import struct
import unicodedata
import zlib
from pathlib import Path

import unicodedata2

TARGET = Path(__file__).resolve().parents[1] / "src/stentor/tokenizer/tokenmonster/unicode13.bin"
NUM_CODE_POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)
HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)
LOWER, UPPER, LETTER, NUMBER, MARK, NONSPACING, SPACE, CASED, CASE_IGNORABLE = (1 << bit for bit in range(9))
WHITE_SPACE = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
# Word_Break = MidLetter, MidNumLet or Single_Quote, which Case_Ignorable adds to Mn, Me, Cf, Lm and Sk.
MID_WORD = {
    *(0x27, 0x2E, 0x3A, 0xB7, 0x387, 0x55F, 0x5F4, 0x2018, 0x2019, 0x2024, 0x2027),
    *(0xFE13, 0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A),
}


def class_of(code: int) -> int:
    """Return the classes of a code point, one bit each."""
    category = unicodedata2.category(chr(code))
    bits = {"Ll": LOWER, "Lu": UPPER}.get(category, 0)
    bits |= {"L": LETTER, "N": NUMBER, "M": MARK}.get(category[0], 0)
    bits |= NONSPACING * (category == "Mn") | SPACE * (code in WHITE_SPACE)
    bits |= CASED * (category in ("Lu", "Ll", "Lt"))
    return bits | CASE_IGNORABLE * (category in ("Mn", "Me", "Cf", "Lm", "Sk") or code in MID_WORD)


def runs(values: list[int]) -> tuple[list[int], list[int]]:
    """Return where each run of equal values starts, and its value."""
    starts = [code for code, value in enumerate(values) if code == 0 or value != values[code - 1]]
    return starts, [values[start] for start in starts]


def simple_case(code: int, *, upper: bool) -> int:
    """Return the one-to-one mapping: where the full one is longer, the title form or the first character."""
    character = chr(code)
    full = character.upper() if upper else character.lower()
    if len(full) == 1:
        return ord(full)
    if not upper:
        return ord(full[0])  # only U+0130, to plain i
    title = character.title()
    return ord(title) if len(title) == 1 else code


def pairs(mapping: dict[int, int]) -> tuple[list[int], list[int]]:
    """Return the code points that a mapping changes, and what they become."""
    changed = {code: target for code, target in mapping.items() if code != target}
    return list(changed), list(changed.values())


def main() -> None:
    """Write the tables."""
    assert unicodedata2.unidata_version == unicodedata.unidata_version == "13.0.0", "see the usage above"
    codes = [code for code in range(NUM_CODE_POINTS) if code not in SURROGATES]
    nfd = {code: unicodedata2.normalize("NFD", chr(code)) for code in codes if code not in HANGUL_SYLLABLES}
    nfd = {code: text for code, text in nfd.items() if text != chr(code)}
    offsets = [0]
    for text in nfd.values():
        offsets.append(offsets[-1] + len(text))
    sections = [
        *runs([class_of(code) for code in range(NUM_CODE_POINTS)]),
        *runs([unicodedata2.combining(chr(code)) for code in range(NUM_CODE_POINTS)]),
        *pairs({code: simple_case(code, upper=False) for code in codes}),
        *pairs({code: simple_case(code, upper=True) for code in codes}),
        list(nfd),
        offsets,
        [ord(character) for text in nfd.values() for character in text],
    ]
    packed = b"".join(struct.pack(f"<{len(values) + 1}I", len(values), *values) for values in sections)
    TARGET.write_bytes(zlib.compress(packed, 9))
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes, entries {[len(values) for values in sections]}")


if __name__ == "__main__":
    main()
