"""Read any model as plain arrays: sizes, weights by Hugging Face's names, tokenizer. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stentor.errors import UserError
from stentor.model.config import ModelConfig
from stentor.model.config_file import parse_config
from stentor.model.gguf_model import read_gguf_model
from stentor.model.locate import CONFIG_NAME, find_onnx, is_gguf, resolve_model, weights_file
from stentor.model.quantized import Array
from stentor.model.safetensors_file import read_safetensors
from stentor.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Weights:
    """A model as it was read.

    Attributes:
        origin: the model folder or the .gguf file.
        config: the sizes.
        arrays: all tensors under Hugging Face's names: float32, or in the blocks of a .gguf file. Those of a file
            may be read-only views of it.
        tokenizer: None where a folder holds none.
    """

    origin: Path
    config: ModelConfig
    arrays: Mapping[str, Array]
    tokenizer: Tokenizer | None

    def require_tokenizer(self) -> Tokenizer:
        """Return the tokenizer, which commands that read or write text cannot do without."""
        return required_tokenizer(self.tokenizer, self.origin)


def read_weights(path_or_id: str | Path) -> Weights:
    """Read a model from disk or the Hub, refusing anything that is not exactly a whole model.

    Args:
        path_or_id: a model folder, a run folder (its best checkpoint), a .gguf file or a Hub id.

    Raises:
        UserError: a file or tensor is missing, unexpected, mis-shaped or not finite, or the tokenizer has more
            tokens than the embedding has rows.
    """
    if onnx := find_onnx(path_or_id):
        raise UserError(
            f"{onnx} is a graph for onnxruntime, which generate and evaluate run; its weights are not read",
            fix="pass the model that it was exported from",
        )
    path = resolve_model(path_or_id)
    if is_gguf(path):
        config, arrays, tokenizer = read_gguf_model(path)
    else:
        config = parse_config(path / CONFIG_NAME)
        arrays = read_safetensors(weights_file(path), config)
        tokenizer = Tokenizer.load(path) if Tokenizer.is_in(path) else None
    if tokenizer is not None:
        require_matching(tokenizer, config, origin=str(path))
    return Weights(path, config, arrays, tokenizer)


def required_tokenizer(tokenizer: Tokenizer | None, origin: Path) -> Tokenizer:
    """Return a model's tokenizer, or refuse the model that came without one."""
    if tokenizer is None:
        raise UserError(
            f"{origin} has no tokenizer.json or tokenmonster.vocab",
            fix="put the tokenizer the model was trained with there",
        )
    return tokenizer


def require_matching(tokenizer: Tokenizer, config: ModelConfig, *, origin: str) -> None:
    """Refuse a tokenizer whose ids the model's embedding cannot hold."""
    require_fitting(tokenizer.vocab_size, config, origin=origin)


def require_fitting(num_tokens: int, config: ModelConfig, *, origin: str) -> None:
    """Refuse a vocabulary of so many tokens, special ones among them, if the model's embedding has fewer rows."""
    if num_tokens > config.vocab_size:
        raise UserError(
            f"the tokenizer has {num_tokens} tokens but the model in {origin} expects at most {config.vocab_size}",
            fix="pass the tokenizer the model was trained with",
        )
