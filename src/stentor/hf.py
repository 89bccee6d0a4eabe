"""Lets transformers open a model folder with a TokenMonster vocabulary: after `import stentor.hf`, plain
`AutoTokenizer.from_pretrained(folder)` does.

A folder with a byte-level BPE needs nothing of ours. TokenMonster's look-ahead cannot be written as a tokenizer.json,
so its ids come from Stentor's own encoder, behind a class that transformers 4 and 5 both take.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stentor.artifacts import write_file
from stentor.errors import UserError, missing_extra
from stentor.tokenizer.bpe_file import byte_alphabet
from stentor.tokenizer.tokenmonster.load import load_tokenmonster
from stentor.tokenizer.tokenmonster.tokenizer import (
    CONFIG_FILE,
    HOW_TO_OPEN,
    SPECIAL_TOKENS,
    VOCAB_FILE,
    TokenMonsterTokenizer,
)
from stentor.tokenizer.tokenmonster.vocab_file import pack_vocab

try:
    from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizer
except ImportError:
    raise missing_extra("transformers", "hf", needed_for="opening a vocabulary in transformers") from None


class StentorTokenMonsterTokenizer(PreTrainedTokenizer):
    """A TokenMonster vocabulary in transformers, with the ids and the text of `stentor.Tokenizer`.

    Special tokens spelt out in a text are plain text; `split_special_tokens=False` reads them as tokens. Text is
    decoded as it is, never "cleaned up". Ids between the vocabulary and the model's padded embedding stand for nothing.

    Args:
        vocab_file: the .vocab file.
        **options: as every tokenizer of transformers takes them.
    """

    vocab_files_names = {"vocab_file": VOCAB_FILE}  # noqa: RUF012 (as transformers declares it)
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(self, vocab_file: str | None = None, **options: Any) -> None:
        if vocab_file is None:
            raise UserError(f"there is no {VOCAB_FILE} to open", fix="pass the folder of a model or a tokenizer")
        self._tokenizer = load_tokenmonster(vocab_file)
        self._labels = token_labels(self._tokenizer)
        self._ids = {label: token_id for token_id, label in enumerate(self._labels)}
        special = {f"{role}_token": content for role, content in SPECIAL_TOKENS.items()}
        defaults = {**special, "clean_up_tokenization_spaces": False, "split_special_tokens": True}
        super().__init__(**{**defaults, **options})

    @property
    def vocab_size(self) -> int:
        """Number of tokens, special ones among them."""
        return self._tokenizer.vocab_size

    def get_vocab(self) -> dict[str, int]:
        """Return ids by label: each token's bytes in the alphabet of byte-level vocabularies."""
        return {**self._ids, **self._added_tokens_encoder}

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Return the ids as they are: models are trained with nothing around a text."""
        return [*token_ids_0, *(token_ids_1 or [])]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of a sequence of labels."""
        return self._tokenizer.decode(self._ids[token] for token in tokens)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        """Write the .vocab file into a folder."""
        name = f"{filename_prefix}-{VOCAB_FILE}" if filename_prefix else VOCAB_FILE
        path = Path(save_directory) / name
        write_file(path, pack_vocab(self._tokenizer.vocab))
        return (str(path),)

    @classmethod
    def _from_pretrained(cls, resolved_vocab_files: dict[str, str | None], *arguments: Any, **options: Any) -> Any:
        """Take out the entry that keeps other classes away, then go on as every tokenizer does."""
        if (config := resolved_vocab_files.get("tokenizer_config_file")) is not None:
            added = json.loads(Path(config).read_bytes()).get("added_tokens_decoder", {})
            kept = {token_id: token for token_id, token in added.items() if token_id != HOW_TO_OPEN}
            options.setdefault("added_tokens_decoder", kept)
        return super()._from_pretrained(resolved_vocab_files, *arguments, **options)

    def _save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        file_names: tuple[str, ...],
        legacy_format: bool | None = None,
        filename_prefix: str | None = None,
    ) -> tuple[str, ...]:
        """Write the vocabulary, and put back the entry that keeps other classes away."""
        for path in (Path(name) for name in file_names if name.endswith(CONFIG_FILE)):
            config = json.loads(path.read_bytes())
            config["added_tokens_decoder"] = {**config.get("added_tokens_decoder", {}), HOW_TO_OPEN: {"content": ""}}
            write_file(path, json.dumps(config, indent=1, ensure_ascii=False) + "\n")
        return (*file_names, *self.save_vocabulary(str(save_directory), filename_prefix))

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        return [self._labels[token_id] for token_id in self._tokenizer.encode(text)]

    def _convert_token_to_id(self, token: str) -> int | None:
        return self._ids.get(token)

    def _convert_id_to_token(self, index: int) -> str:
        return self._labels[index] if 0 <= index < len(self._labels) else ""

    def _decode(
        self,
        token_ids: int | Iterable[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **_: Any,
    ) -> str:
        texts: list[str] = []
        ordinary: list[int] = []
        for token_id in [token_ids] if isinstance(token_ids, int) else token_ids:
            if token_id < self._tokenizer.vocab.end_id:
                ordinary.append(token_id)
                continue
            texts.append(self._tokenizer.decode(ordinary))
            ordinary.clear()
            added = self._added_tokens_decoder.get(token_id)
            if added is not None and not (skip_special_tokens and token_id in self.all_special_ids):
                texts.append(added.content)
        return "".join([*texts, self._tokenizer.decode(ordinary)])


def token_labels(tokenizer: TokenMonsterTokenizer) -> list[str]:
    """Return a name for each id, no two alike: its bytes in the alphabet of byte-level vocabularies."""
    character = {byte: label for label, byte in byte_alphabet().items()}
    special = list(SPECIAL_TOKENS.values())
    labels: list[str] = []
    for token_id in range(tokenizer.vocab.end_id):
        label = "".join(character[byte] for byte in tokenizer.token_bytes(token_id))
        # No byte is written as a space, so what has one is no other token's name: UNK, or a token spelt like EOS.
        labels.append(f"{label} {token_id}" if not label or label in special else label)
    return [*labels, *special]


class _TokenMonsterConfig(PretrainedConfig):
    """transformers files tokenizers under configurations; no model has this one."""

    model_type = "stentor-tokenmonster"


AutoTokenizer.register(_TokenMonsterConfig, slow_tokenizer_class=StentorTokenMonsterTokenizer, exist_ok=True)
