"""Mixed strings that find the differences between two programs which claim to have the same tokenizer.

An export is kept only if the other program gives the same ids for thousands of these. Each string is made of a few
fragments, because most differences hide where two kinds of text meet: a space before an emoji, a carriage return
after a number, a contraction in capitals.
"""

from __future__ import annotations

import random
from collections.abc import Callable

_PROSE = """
the a of to and in is was for it with as his on be at by had not are but from or have an they which you were her
photosynthesis Constantinople thermodynamics Zeitgeist naively McDonald iPhone USA NASA eBay x y
"""
_SHORTENED = """
don't I'm we'll they've she'd it's you're DON'T I'M WE'LL THEY'VE SHE'D IT'S YOU'RE o'clock 'tis
"""
_WORDS, _CONTRACTIONS = _PROSE.split(), _SHORTENED.split()
_EMOJI = (
    "\U0001f600",
    "\U0001f44d\U0001f3fd",  # thumb with a skin tone
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # family: three people and zero-width joiners
    "\U0001f3f3\ufe0f\u200d\U0001f308",  # flag, variation selector, joiner, rainbow
    "\U0001f1ea\U0001f1fa",  # two regional indicators
    "1\ufe0f\u20e3",  # keycap
    "\u2764\ufe0f",
)
_MARKS = (
    "e\u0301",
    "o\u0308\u0323",
    "n\u0303o",
    "\u0915\u094d\u0937\u093f",  # Devanagari conjunct
    "\u0e17\u0e35\u0e48",  # Thai vowel and tone mark
    "Z\u0351\u036b\u0343a\u0321l\u0321",
    "\u0301",
)
_SCRIPTS = (
    "\u6771\u4eac\u90fd\u306b\u4f4f\u3093\u3067",
    "\u4e2d\u6587\uff0c\u6ca1\u6709\u7a7a\u683c\u3002",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0661\u0662\u0663",
    "\u0648\u064e\u0642\u064e\u0627\u0644\u064e",
    "\u0420\u0443\u0441\u0441\u043a\u0438\u0439",
    "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac",
    "\u05e2\u05d1\u05e8\u05d9\u05ea",
    "Stra\u00dfe \u00c4\u00d6\u00dc na\u00efve",
    "\U0001d4d0\U0001d4d1 \u2460\u2461 \u00bd \u216b",
)
_CODE = (
    "def f(x: int) -> str:\n    return f'{x!r}'\n",
    'if (a[i] != b->c) { printf("%d\\n", *p++); }',
    "for(;;){}//loop\n\t\tx+=1;",
    "<div class='a'>&nbsp;</div>",
    "SELECT * FROM t WHERE id=42;--",
    "https://example.org/a?b=c&d=%20#e",
    "C:\\dir\\file.txt",
    "x = [[1,2],[3,4]]  # comment",
)
_SPACES = (" ", "\n", "\t", "\r\n", "\r", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2028", "\x85", "\x0b", "\x0c")
_PUNCTUATION = "!?.,:;-_=+*/\\|@#$%^&~`'\"()[]{}<>" + "\u2026\u2014\u2013\u201c\u201d\u2019\u00ab\u00bb\u3002\u00bf"


def mixed_strings(count: int, seed: int = 0) -> list[str]:
    """Return strings of every kind of text that tokenizers disagree on; the same ones for the same seed.

    Args:
        count: how many.
        seed: another seed gives other strings.

    Returns:
        Valid Unicode strings, neither empty nor containing anything spelt like a special token (`<|...|>`).
    """
    random_source = random.Random(seed)
    strings: list[str] = []
    while len(strings) < count:
        parts = [random_source.choice(_FRAGMENTS)(random_source) for _ in range(random_source.randint(1, 8))]
        text = random_source.choice(("", "", " ", "\n")).join(parts)
        if "<|" not in text and "|>" not in text:
            strings.append(text)
    return strings


def _prose(random_source: random.Random) -> str:
    words = random_source.choices(_WORDS, k=random_source.randint(1, 10))
    styled = [random_source.choice((str, str, str, str.title, str.upper))(word) for word in words]
    return " ".join(styled) + random_source.choice(("", ".", ",", "?", "!\n", ".\r\n"))


def _contraction(random_source: random.Random) -> str:
    return random_source.choice(_CONTRACTIONS)


def _whitespace(random_source: random.Random) -> str:
    """Return a run of one kind, or a mixture."""
    length = random_source.randint(1, 40)
    if random_source.random() < 0.6:
        return random_source.choice(_SPACES[:4]) * length
    return "".join(random_source.choices(_SPACES, k=min(length, 12)))


def _number(random_source: random.Random) -> str:
    digits = str(random_source.randrange(10 ** random_source.randint(1, 15)))
    return random_source.choice(("{}", "-{}", "{}.5", "1,{}", "${}", "{}%", "0x{}", "{}e-7", "{}th")).format(digits)


def _punctuation(random_source: random.Random) -> str:
    if random_source.random() < 0.4:
        return random_source.choice(_PUNCTUATION) * random_source.randint(1, 80)
    return "".join(random_source.choices(_PUNCTUATION, k=random_source.randint(1, 12)))


def _code(random_source: random.Random) -> str:
    code = random_source.choice(_CODE)
    return code.replace("\n", "\r\n") if random_source.random() < 0.3 else code


def _one_of(examples: tuple[str, ...]) -> Callable[[random.Random], str]:
    return lambda random_source: random_source.choice(examples) * random_source.randint(1, 3)


def _repaired(random_source: random.Random) -> str:
    """Return what reading bytes that are not UTF-8 leaves behind: U+FFFD between other things."""
    valid = "".join(random_source.choice((*_EMOJI, *_SCRIPTS, *_WORDS)) for _ in range(3)).encode()
    broken = bytearray(valid[random_source.randint(0, 3) : len(valid) - random_source.randint(0, 3)])
    for _ in range(random_source.randint(1, 4)):
        broken.insert(random_source.randrange(len(broken) + 1), random_source.randrange(0x80, 0x100))
    return broken.decode(errors="replace")


def _any_character(random_source: random.Random) -> str:
    """Return characters from anywhere in Unicode but surrogates; unassigned and private ones too."""
    highest = random_source.choice((0x7F, 0x24F, 0xD7FF, 0x1FFFF, 0x10FFFF))
    code_points = (random_source.randint(0, highest) for _ in range(random_source.randint(1, 8)))
    return "".join(chr(code_point) for code_point in code_points if not 0xD800 <= code_point <= 0xDFFF) or "\x00"


_FRAGMENTS = (
    _prose,
    _prose,
    _contraction,
    _whitespace,
    _whitespace,
    _number,
    _punctuation,
    _code,
    _one_of(_EMOJI),
    _one_of(_MARKS),
    _one_of(_SCRIPTS),
    _repaired,
    _any_character,
)
