"""What to learn: everything that decides a vocabulary but the text."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from stentor.errors import UserError, nearest_name
from stentor.tokenizer.tokenmonster.normalize import NFD, normalize
from stentor.tokenizer.tokenmonster.vocab_file import MODES, Settings

TRAINED_MODES = MODES[:5]
MODES_WITH_MARKERS = ("consistent", "strict")
BYTE_SETS = {"utf8": 4 | 32, "all": 1, "ascii": 8 | 32, "extended": 16 | 32}
"""The single bytes that every vocabulary gets, and the flags that say so in its file; no other byte gets a token."""
MAX_VOCAB_SIZE = 120_000
NUM_SPECIAL_TOKENS = 3
"""EOS, BOS and PAD, which come above a vocabulary."""
_PRINTABLE = (*range(0x20, 0x7F), 0x09, 0x0A, 0x0D)
_SIGNS = "\u00a3\u20ac\u00a9\u00ae\u2122\u00b0%\u00a2\u00a5\u2014\u2013\u2022\u2018\u2019\u201c\u201d"
_ACCENTED = (
    "\u00e1\u00e9\u00ed\u00f3\u00fa\u00fd\u00e0\u00e8\u00ec\u00f2\u00f9\u00e2\u00ea\u00ee\u00f4\u00fb\u00e4\u00eb\u00ef"
    "\u00f6\u00fc\u00f1\u00e3\u00f5\u00e7\u00e5\u00e6\u0153"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How a vocabulary is learned.

    Attributes:
        vocab_size: tokens to learn, single bytes among them; EOS, BOS and PAD come above.
        mode: which substrings may be tokens.
        capcode: 0 none; 1 words begin with a space everywhere; 2 capitals are spelt out, too.
        is_fast: look at fewer candidates and stop earlier.
        seed: decides which swaps are tried at the end.
        single_bytes: a name in BYTE_SETS.
        min_occurrences: substrings that occur less often are not looked at; 0 chooses by the size of the text.
        only_latin: no token has a letter of another script.
        only_valid: no token but a single byte begins or ends within a character.
    """

    vocab_size: int = 8000
    mode: str = "balanced"
    capcode: int = 2
    is_fast: bool = False
    seed: int = 0
    single_bytes: str = "utf8"
    min_occurrences: int = 0
    only_latin: bool = True
    only_valid: bool = True

    def __post_init__(self) -> None:
        if self.mode not in TRAINED_MODES:
            raise UserError(f"there is no mode {self.mode!r}", fix=nearest_name(self.mode, TRAINED_MODES))
        if self.capcode not in (0, 1, 2):
            raise UserError(f"there is no capcode level {self.capcode}", fix="use 0, 1 or 2")
        if self.mode in MODES_WITH_MARKERS and not self.capcode:
            raise UserError(f"the mode {self.mode} needs capcode 1 or 2", fix="pass --capcode 2, or another --mode")
        if self.single_bytes not in BYTE_SETS:
            raise UserError(
                f"there is no set of bytes {self.single_bytes!r}", fix=nearest_name(self.single_bytes, BYTE_SETS)
            )
        if self.min_occurrences < 0 or self.min_occurrences == 1:
            raise UserError(f"a minimum of {self.min_occurrences} occurrences is too small", fix="use 2 or more")
        if not 0 <= self.seed < 1 << 63:
            raise UserError(f"the seed {self.seed} cannot be used", fix="use a whole number from 0 to 2**63 - 1")
        smallest = len(self.bytes_with_tokens) + 1
        if not smallest <= self.vocab_size <= MAX_VOCAB_SIZE:
            raise UserError(
                f"a vocabulary of {self.vocab_size} tokens cannot be learned",
                fix=f"ask for {smallest} ({smallest - 1} single bytes and one more) to {MAX_VOCAB_SIZE}",
            )

    @property
    def bytes_with_tokens(self) -> frozenset[bytes]:
        """The single bytes that every vocabulary gets, the markers of capcode among them."""
        chosen = set(_PRINTABLE)
        if self.single_bytes == "all":
            chosen = set(range(256))
        elif self.single_bytes == "utf8":
            chosen |= {*range(0x80, 0xC0), *range(0xC2, 0xF5)}
        elif self.single_bytes == "extended":
            signs = _SIGNS + _ACCENTED + (_ACCENTED.upper() if self.capcode < 2 else "")
            chosen |= set(normalize(signs.encode(), NFD))
        if self.capcode == 1:
            chosen.add(0x7F)
        if self.capcode == 2:  # capitals are spelt with small letters
            chosen -= set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ") - set(b"CDW")
        return frozenset(bytes([byte]) for byte in chosen)

    @property
    def file_settings(self) -> Settings:
        """What the vocabulary's file says of how text is prepared and how it was learned."""
        return Settings(
            capcode=self.capcode,
            normalization=NFD,
            mode=TRAINED_MODES.index(self.mode),
            reserve=BYTE_SETS[self.single_bytes],
        )

    def fingerprint(self, text_sha256: str) -> str:
        """Return a digest of everything that decides the result."""
        body = json.dumps({"algorithm": 1, "text": text_sha256, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(body.encode()).hexdigest()
