"""The weights of a model as a GGUF file of some dtype holds them, where that is more than rounding each alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from stentor.errors import UserError
from stentor.evaluate.text import encode_documents
from stentor.export.compensated import compensated
from stentor.export.quantize import dtype_of
from stentor.export.scales import LOWEST, in_blocks, searched
from stentor.export.source import Source
from stentor.model.fake_quant import quantize_int8
from stentor.model.names import EMBEDDING, HEAD
from stentor.model.quantized import BLOCK_SIZE, Array, Quantized
from stentor.text.sources import read_texts
from stentor.tokenizer import Tokenizer

CALIBRATION_TOKENS = 32_768
"""Of a text that errors are compensated on; they run through the network once, together."""
_LONGEST_DOCUMENT = 8_000
"""Characters that are taken of each document, so that many are seen."""


def prepared_tensors(source: Source, dtype: str, *, calibrate: str | None = None) -> dict[str, Array]:
    """Return all tensors under Hugging Face's names, those in blocks that need more care than the plain way.

    Q4_0 and Q5_0 get searched scales, or are rounded with compensated errors if there is a text to calibrate on;
    `int8` gets the integers that training has felt, with the scale of a row in each of its blocks.

    Args:
        source: the model.
        dtype: of the file, one of `quantize.FILE_DTYPES`.
        calibrate: a source of text.

    Raises:
        UserError: there is no such text, or the dtype takes none.
    """
    if calibrate is not None and dtype not in LOWEST:
        raise UserError(f"{dtype} is not rounded by a text", fix=f"calibrate {' or '.join(LOWEST)}")
    config = source.config
    found: dict[str, Array] = {name: tensor.numpy() for name, tensor in source.tensors.items()}
    matrices = {
        name: dtype_of(name, dtype, is_tied=config.tie_word_embeddings, num_layers=config.num_hidden_layers)
        for name, tensor in source.tensors.items()
        if tensor.ndim == 2 and tensor.shape[1] % BLOCK_SIZE == 0
    }
    layers = [name for name in matrices if name not in (EMBEDDING, HEAD)]
    if dtype == "int8" or calibrate is not None:
        _require_whole_blocks(source, layers)
    if dtype == "int8":
        return found | {name: as_trained(source.tensors[name]) for name in layers}
    rounded = {name: chosen for name, chosen in matrices.items() if chosen in LOWEST}
    if calibrate is not None:
        inputs_BT = calibration_windows(source.tokenizer, calibrate, config.max_position_embeddings)
        found |= compensated(config, source.tensors, inputs_BT, dtype)
        rounded = {name: chosen for name, chosen in rounded.items() if name not in layers}
    return found | {name: searched(source.tensors[name].numpy(), chosen) for name, chosen in rounded.items()}


def as_trained(weight_RC: torch.Tensor) -> Quantized:
    """Return a matrix in the integers and scales that `model.fake_quant` multiplies by, as blocks of Q8_0."""
    integers, scale = quantize_int8(weight_RC)
    whole = integers.numpy().reshape(len(weight_RC), -1, BLOCK_SIZE)
    return in_blocks(whole, np.broadcast_to(scale.numpy().astype(np.float16), whole.shape[:2]), "q8_0")


def calibration_windows(tokenizer: Tokenizer, text: str, context_length: int) -> NDArray[np.int64]:
    """Return ids of the beginnings of a text's documents, in windows [B, T] of the context or less."""
    token_ids, num_tokens = [], 0
    for document in read_texts(text):
        token_ids.append(encode_documents(tokenizer, [document[:_LONGEST_DOCUMENT]]).token_ids)
        num_tokens += len(token_ids[-1])
        if num_tokens >= CALIBRATION_TOKENS:
            break
    if num_tokens == 0:
        raise UserError(f"there is no text to calibrate on in {text}", fix="name a source with some text")
    length = min(context_length, num_tokens)
    return np.concatenate(token_ids)[: num_tokens // length * length].astype(np.int64).reshape(-1, length)


def _require_whole_blocks(source: Source, layers: list[str]) -> None:
    odd = {
        tensor.shape[1]
        for name, tensor in source.tensors.items()
        if tensor.ndim == 2 and name not in (*layers, EMBEDDING, HEAD)
    }
    if odd:
        raise UserError(
            f"weights of layers go into blocks of {BLOCK_SIZE} whole numbers, and rows of {odd.pop()} cannot be cut so",
            fix="use another dtype, such as float16, and no --calibrate",
        )
