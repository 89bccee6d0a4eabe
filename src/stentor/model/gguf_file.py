"""Map a GGUF file: its metadata with their types checked, its tensors as views of the file in their own blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError
from stentor.model.gguf_header import DEFAULT_ALIGNMENT, Header, TensorInfo, read_header, refuse_damaged
from stentor.model.quantized import RECORDS, Array, Quantized, values_per_block
from stentor.model.safetensors_file import bfloat16_to_float32, require_finite
from stentor.sealed import require_sealed

TYPE_NAMES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    8: "Q8_0",
    10: "Q2_K",
    11: "Q3_K",
    12: "Q4_K",
    13: "Q5_K",
    14: "Q6_K",
    15: "Q8_K",
    28: "F64",
    30: "BF16",
}
"""GGML's types by number: those that we read, and those that users meet most."""

FLOAT_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
ALIGNMENT_KEY = "general.alignment"
_MAX_ALIGNMENT = 1 << 16


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A mapped file.

    Attributes:
        path: for messages.
        metadata: as the header has them; to be asked for by type with the methods below.
        tensors: under llama.cpp's names; float32 arrays and blocks, which may be read-only views of the file.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Array]

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string of the metadata, or refuse a file that has none and no default."""
        return self._typed(key, str, "a text", default)

    def whole(self, key: str, default: int | None = None) -> int:
        """Return a whole number of the metadata."""
        return self._typed(key, int, "a whole number", default)

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number of the metadata."""
        return float(self._typed(key, (int, float), "a number", default))

    def texts(self, key: str) -> list[str]:
        """Return an array of strings of the metadata."""
        return self._typed(key, list, "a list of texts", None)

    def wholes(self, key: str) -> list[int]:
        """Return an array of whole numbers of the metadata."""
        array = self._typed(key, np.ndarray, "a list of whole numbers", None)
        if array.dtype.kind not in "iu":
            self._refuse(key, "a list of whole numbers")
        return array.tolist()

    def _typed(self, key: str, kinds: Any, wanted: str, default: Any) -> Any:
        value = self.metadata.get(key, default)
        if value is None:
            raise UserError(f"{self.path} does not say its {key}", fix="export the model again")
        if not isinstance(value, kinds) or isinstance(value, bool):
            self._refuse(key, wanted)
        return value

    def _refuse(self, key: str, wanted: str) -> None:
        raise UserError(f"{self.path} has a {key} that is not {wanted}", fix="export the model again")


def open_gguf(path: Path) -> GgufFile:
    """Map a file and refuse it if anything in it contradicts its size, its types or finite arithmetic.

    Raises:
        UserError: it cannot be read, is damaged, or holds a tensor of a type that we do not read.
        CorruptArtifactError: it was altered since its folder was sealed.
    """
    try:
        size_bytes = path.stat().st_size
        data = np.memmap(path, np.uint8, mode="r").view(np.ndarray) if size_bytes else np.empty(0, np.uint8)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", fix="check the path") from None
    header = read_header(data, path)
    begin = _data_begin(header, path)
    spans = {name: _span(info, name, path) for name, info in header.tensors.items()}
    _check_spans(spans, len(data) - begin, _alignment(header, path), path)
    tensors = {
        name: _view(data[begin + first : begin + last], header.tensors[name], f"{path}: {name}")
        for name, (first, last) in spans.items()
    }
    require_sealed(path, data)
    return GgufFile(path, header.metadata, tensors)


def _alignment(header: Header, path: Path) -> int:
    alignment = header.metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 8 <= alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
        refuse_damaged(path, f"its {ALIGNMENT_KEY} is {alignment!r:.80}")
    return alignment


def _data_begin(header: Header, path: Path) -> int:
    alignment = _alignment(header, path)
    return -(-header.size_bytes // alignment) * alignment


def _span(info: TensorInfo, name: str, path: Path) -> tuple[int, int]:
    """Return the first byte of a tensor and the one behind its last, from its type and its shape alone."""
    kind = TYPE_NAMES.get(info.type_id, f"type {info.type_id}")
    if kind not in FLOAT_DTYPES and kind not in RECORDS:
        raise UserError(
            f"{path}: {name!r:.80} is stored as {kind}, which Stentor does not read",
            fix=f"use a file in {', '.join([*FLOAT_DTYPES, *RECORDS])}",
        )
    num_values = math.prod(info.shape)
    if num_values == 0:
        refuse_damaged(path, f"the tensor {name!r:.80} is empty")
    if kind in FLOAT_DTYPES:
        num_bytes = num_values * np.dtype(FLOAT_DTYPES[kind]).itemsize
    elif info.shape[-1] % (block_size := values_per_block(kind)):
        refuse_damaged(path, f"the rows of {name!r:.80} cannot be cut into blocks of {block_size}")
    else:
        num_bytes = num_values // block_size * RECORDS[kind].itemsize
    return info.offset, info.offset + num_bytes


def _check_spans(spans: dict[str, tuple[int, int]], num_bytes: int, alignment: int, path: Path) -> None:
    end = 0
    for name, (first, last) in sorted(spans.items(), key=lambda entry: entry[1]):
        if first % alignment:
            refuse_damaged(path, f"the tensor {name!r:.80} does not begin at a multiple of {alignment} bytes")
        if first < end:
            refuse_damaged(path, f"the tensor {name!r:.80} overlaps another one")
        if last > num_bytes:
            refuse_damaged(path, f"the tensor {name!r:.80} reaches beyond the end of the file")
        end = last


def _view(raw: NDArray[np.uint8], info: TensorInfo, where: str) -> Array:
    kind = TYPE_NAMES[info.type_id]
    if kind in RECORDS:
        blocks = raw.view(RECORDS[kind]).reshape(*info.shape[:-1], info.shape[-1] // values_per_block(kind))
        quantized = Quantized(kind, blocks)
        require_finite(quantized.is_finite(), where)
        return quantized
    stored = raw.view(FLOAT_DTYPES[kind])
    values = bfloat16_to_float32(stored) if kind == "BF16" else stored.astype(np.float32, copy=False)
    require_finite(bool(np.isfinite(values).all()), where)
    return values.reshape(info.shape)
