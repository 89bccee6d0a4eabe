"""The model an export starts from, and our own side of its proof."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from stentor.errors import UserError, nearest_name
from stentor.export.about import About, read_about
from stentor.export.consumer import Question
from stentor.model.config import ModelConfig
from stentor.model.folder import build_model, read_model_folder
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.probes import mixed_strings

NUM_STRINGS = 10_000
NUM_POSITIONS = 64
_PROBE_SEED = 0
_LONGEST_WINDOW = 1024
_FLOAT16_MAX = 65_504.0


@dataclass(frozen=True, slots=True)
class Source:
    """A whole model: sizes, float32 tensors under Hugging Face's names, its tokenizer, and what its card says."""

    config: ModelConfig
    tensors: dict[str, Tensor]
    tokenizer: Tokenizer
    about: About = field(default_factory=About)


def read_source(model: str | Path, *, dtype: str) -> Source:
    """Read the model to export and refuse what no exported file could hold.

    Args:
        model: a model folder, a run folder, a .gguf file or a Hub id.
        dtype: of the exported weights.

    Raises:
        UserError: it is no whole model, has no tokenizer, its card is damaged, or its weights are beyond the range of
            float16.
    """
    folder = read_model_folder(model)
    tokenizer = folder.require_tokenizer()
    if dtype == "float16":
        for name, tensor in folder.tensors.items():
            if (largest := float(tensor.abs().max())) > _FLOAT16_MAX:
                raise UserError(
                    f"{folder.path}: {name} holds {largest:.4g}, beyond float16's {_FLOAT16_MAX:.0f}",
                    fix="pass --dtype float32",
                )
    return Source(folder.config, folder.tensors, tokenizer, read_about(folder.path))


def require_dtype(dtype: str, known: tuple[str, ...], *, target: str) -> None:
    """Refuse a dtype that a format does not have."""
    if dtype not in known:
        raise UserError(f"{target} files have no dtype {dtype!r} here", fix=nearest_name(dtype, known))


def mixed_probes() -> list[str]:
    """Return the strings that every consumer's tokenizer is asked about."""
    return mixed_strings(NUM_STRINGS, _PROBE_SEED)


def make_question(source: Source, path: Path) -> Question:
    """Return what a consumer is asked: 10,000 mixed strings, and positions spread over a window of the context."""
    strings = mixed_probes()
    window: list[int] = []
    length = min(source.config.max_position_embeddings, _LONGEST_WINDOW) - 1
    for text in strings:
        window += source.tokenizer.encode(text)
        if len(window) >= length:
            break
    window = window[:length]
    positions = sorted({int(position) for position in np.linspace(0, len(window) - 1, NUM_POSITIONS)})
    return Question(str(path), strings, window, positions, _plain_token(source.tokenizer))


def _plain_token(tokenizer: Tokenizer) -> int:
    """Return a token that any program can print; not every vocabulary covers any one letter."""
    return next(token_id for token_id in range(tokenizer.vocab_size) if tokenizer.token_bytes(token_id).isalnum())


def our_logits(
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    question: Question,
    *,
    product: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> NDArray[np.float32]:
    """Return our network's logits [positions, vocabulary].

    Args:
        config: the model's sizes.
        tensors: its weights under Hugging Face's names.
        question: the window and the positions.
        product: what the consumer makes of the input of a matrix product, the first argument, and of the matrix.
    """
    model = build_model(config, tensors, origin="the model to export")
    with torch.inference_mode(), _Products(product) if product else nullcontext():
        logits_TV = model(torch.tensor([question.window]))[0]
    return logits_TV[question.positions].numpy()


class _Products(TorchFunctionMode):
    """Compute every linear layer, none of which has a bias, as a consumer with narrow arithmetic does."""

    def __init__(self, product: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self._product = product

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear:
            return self._product(*args[:2])
        return func(*args, **(kwargs or {}))
