"""A TokenMonster vocabulary as the closest thing that llama.cpp knows: its `rwkv` tokenizer.

llama.cpp then takes the longest token at each place of the raw text, prints the tokens' bytes, and neither prepares
text nor looks ahead. So its ids are NOT those that the model was trained on; `measure_mapping` says how far they are.

One string stands for each id. Of a token with two spellings it is the plain one (`hello`, not `D hello`): it is what
a user types at the start of a line or behind a bracket, and what reads well when llama.cpp prints it.

Reference: llama.cpp, src/llama-vocab.cpp, llm_tokenizer_rwkv.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gguf import TokenType

from stentor.errors import UserError
from stentor.tokenizer.tokenmonster.tokenizer import SPECIAL_TOKENS, TokenMonsterTokenizer

_UNTYPED = b"\xff"
"""Begins what no text may spell: this byte is in no UTF-8."""


@dataclass(frozen=True)
class RwkvVocabulary:
    """What llama.cpp is told: one string of bytes for each row of the embedding, no two alike.

    Attributes:
        token_bytes: of each row.
        token_types: llama.cpp's kind of each row.
        unknown_id: what a byte becomes that begins no token: the vocabulary's own UNK, or else PAD, which no model
            was trained on either.
    """

    token_bytes: list[bytes]
    token_types: list[int]
    unknown_id: int

    def encode(self, data: bytes) -> list[int]:
        """Return the ids that llama.cpp gives for these bytes: the longest token at each place."""
        ids, longest = self._ids, max(map(len, self.token_bytes))
        found: list[int] = []
        start = 0
        while start < len(data):
            ends = range(min(len(data), start + longest), start, -1)
            end = next((end for end in ends if data[start:end] in ids), None)
            found.append(self.unknown_id if end is None else ids[data[start:end]])
            start = end or start + 1
        return found

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        return {token: token_id for token_id, token in enumerate(self.token_bytes)}

    def printed(self, num_tokens: int) -> list[bytes]:
        """Return what llama.cpp prints for each of the first rows: nothing for a special token."""
        silent = (TokenType.CONTROL, TokenType.UNKNOWN)
        pairs = zip(self.token_bytes[:num_tokens], self.token_types, strict=False)
        return [b"" if kind in silent else token for token, kind in pairs]

    def spellings(self) -> list[str]:
        """Return the strings of the GGUF file: printable ASCII, everything else escaped as llama.cpp reads it."""
        return [_escaped(token) for token in self.token_bytes]


def rwkv_vocabulary(tokenizer: TokenMonsterTokenizer, num_rows: int) -> RwkvVocabulary:
    """Return the closest `rwkv` vocabulary.

    Special tokens and rows without a token begin with a byte that no text has: a `<|endoftext|>` in a text stays
    text. llama.cpp never ends where a token begins with a byte that is no token itself, so each such byte gets a row
    beyond the vocabulary.

    Args:
        tokenizer: the model's.
        num_rows: rows of its embedding.

    Raises:
        UserError: there are not enough rows for those bytes.
    """
    vocab = tokenizer.vocab
    plain = {record.id: record.token for record in vocab.records if not record.is_duplicate}
    special = dict(enumerate(SPECIAL_TOKENS.values(), vocab.end_id))
    tokens = set(plain.values())
    lone = sorted({token[:1] for token in tokens} - tokens - {_UNTYPED})
    if len(lone) > num_rows - tokenizer.vocab_size:
        raise UserError(
            f"{len(lone)} bytes begin tokens and are none, and the embedding has {num_rows - tokenizer.vocab_size} "
            f"rows to spare: llama.cpp would not come to an end",
            fix="train the model with a larger model.vocab_size, or with a vocabulary that has all single bytes",
        )
    plain |= {tokenizer.vocab_size + index: byte for index, byte in enumerate(lone)}
    unknown_id = vocab.unk_id if vocab.unk_id < vocab.end_id else tokenizer.pad_token_id
    token_bytes, token_types = [], []
    for row in range(num_rows):
        if row in plain:
            token_bytes.append(plain[row])
            token_types.append(int(TokenType.NORMAL))
            continue
        label = b"" if row == unknown_id and _UNTYPED not in tokens else special.get(row, f"[PAD{row}]").encode()
        token_bytes.append(_UNTYPED + label)
        kind = TokenType.CONTROL if row in special else TokenType.UNKNOWN if row == unknown_id else TokenType.UNUSED
        token_types.append(int(kind))
    return RwkvVocabulary(token_bytes, token_types, unknown_id)


def _escaped(token: bytes) -> str:
    return "".join("\\\\" if byte == 0x5C else chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in token)
