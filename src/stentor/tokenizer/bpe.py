"""Byte-level BPE through the `tokenizers` library, in the one form that every reader gives the same ids for.

The words are those of Llama 3's pattern and merges are ignored for a word that is itself a token: exactly what
llama.cpp does under the name `llama-bpe`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from stentor.errors import UserError
from stentor.tokenizer.bpe_file import TokenizerFile, byte_alphabet, parse_bpe_file
from stentor.tokenizer.library import LibraryTokenizer, SpecialTokens
from stentor.tokenizer.pieces import cut, without_surrogates

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

# Reference: Llama Team 2024, "The Llama 3 Herd of Models", arXiv 2407.21783; the pattern is in the released tokenizer.
LLAMA3_PATTERN = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
_WORDS = {"type": "Split", "pattern": {"Regex": LLAMA3_PATTERN}, "behavior": "Isolated", "invert": False}


class BpeTokenizer(LibraryTokenizer):
    """A byte-level BPE vocabulary. Made by `train_bpe` or `Tokenizer.load`."""

    def __init__(self, file: TokenizerFile, special: SpecialTokens, where: str = "the tokenizer") -> None:
        super().__init__(file, special, where)
        steps = json.loads(file.json_bytes)["pre_tokenizer"].get("pretokenizers", [])
        self._may_be_cut = len(steps) == 2 and steps[0] == _WORDS

    def _cut(self, text: str) -> Iterable[str]:
        return cut(text) if self._may_be_cut else (text,)


def train_bpe(texts: Iterable[str], *, vocab_size: int = 8000) -> BpeTokenizer:
    """Learn a byte-level BPE vocabulary; the same texts give the same file, whatever the number of threads.

    Args:
        texts: a stream of documents; words and their counts are kept in memory, the texts are not.
        vocab_size: tokens in all: 3 special tokens (EOS 0, BOS 1, PAD 2), 256 bytes, and the learned rest.

    Raises:
        UserError: the texts do not contain enough different words for so many tokens.
    """
    from tokenizers import trainers

    special = SpecialTokens()
    special_tokens = [special.eos, special.bos, special.pad]
    smallest = 256 + len(special_tokens)
    if vocab_size < smallest:
        raise UserError(f"a vocabulary of {vocab_size} tokens is too small", fix=f"ask for at least {smallest}")
    backend = _empty_backend()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        initial_alphabet=list(byte_alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator((piece for text in texts for piece in cut(without_surrogates(text))), trainer)
    if backend.get_vocab_size() != vocab_size:
        raise UserError(
            f"the text gives only {backend.get_vocab_size()} tokens, {vocab_size} were asked for",
            fix=f"give more text, or ask for a vocabulary of {backend.get_vocab_size()} or less",
        )
    return BpeTokenizer(parse_bpe_file(backend.to_str().encode(), "the new tokenizer"), special)


def rebuild_bpe(
    tokens: Sequence[str], merges: Sequence[str], *, special_ids: Collection[int], roles: Mapping[str, int], where: str
) -> BpeTokenizer:
    """Make a tokenizer of a vocabulary as GGUF files carry it, for the words of Llama 3's pattern.

    A tokenizer that `train_bpe` made comes back as the very same file.

    Args:
        tokens: the spelling of each id, in the byte-level alphabet; of special tokens, as it is.
        merges: pairs, best first, each as two spellings with a space between them.
        special_ids: ids of special tokens.
        roles: the ids of `eos`, `bos` and `pad`.
        where: what the vocabulary was read from, for messages.

    Raises:
        UserError: it breaks a rule that ids depend on; the rule is named.
    """
    raw = json.loads(_empty_backend().to_str())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    raw["added_tokens"] = [
        {"id": token_id, "content": tokens[token_id], "special": True, **flags} for token_id in sorted(special_ids)
    ]
    raw["model"]["vocab"] = {token: token_id for token_id, token in enumerate(tokens)}
    raw["model"]["merges"] = list(merges)
    special = SpecialTokens(**{role: tokens[token_id] for role, token_id in roles.items()})
    return BpeTokenizer(parse_bpe_file(json.dumps(raw).encode(), where), special, where)


def _empty_backend() -> Backend:
    """Return a vocabulary of nothing that cuts text, and spells bytes, as all of ours do."""
    from tokenizers import Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    backend = Backend(models.BPE(ignore_merges=True))
    words = pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, to_bytes])  # pyright: ignore[reportAttributeAccessIssue]
    backend.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    return backend
