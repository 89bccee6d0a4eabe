"""Read the header of a GGUF file, trusting no number in it: each is compared with the bytes there are first.

Reference: ggml, docs/gguf.md. Versions 2 and 3, little-endian, hold the same layout.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
MAX_ENTRIES = 1 << 16
"""More tensors, or more entries of metadata, no model has; each costs far more memory than bytes of the file."""

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
"""Types of metadata by number, as both struct and NumPy spell them."""

_BOOL, _STRING, _ARRAY = 7, 8, 9
_SMALLEST_ENTRY = 8 + 1 + 4 + 1
_SMALLEST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies and how it is stored, as the header says; nothing of it is checked against the data yet.

    Attributes:
        shape: rows before columns, as NumPy has it.
        type_id: GGML's number of the type.
        offset: bytes from the beginning of the data.
    """

    shape: tuple[int, ...]
    type_id: int
    offset: int


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the data.

    Attributes:
        metadata: whole numbers, floats, booleans and strings; arrays of strings as lists, others of NumPy.
        tensors: by name.
        size_bytes: of the header itself, without the padding behind it.
    """

    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]
    size_bytes: int


def read_header(data: NDArray[np.uint8], path: Path) -> Header:
    """Read the header of a mapped file.

    Args:
        data: the whole file.
        path: its name, for messages.

    Raises:
        UserError: it is no GGUF file, of another version, or damaged.
    """
    cursor = _Cursor(data, path)
    if cursor.take(len(MAGIC)) != MAGIC:
        raise UserError(f"{path} is no GGUF file (it does not begin with GGUF)", fix="check the path")
    version = cursor.scalar("<I")
    if version not in VERSIONS:
        raise UserError(
            f"{path} is a GGUF file of version {version}, or of a machine with another byte order",
            fix="convert it to version 3 with the current llama.cpp",
        )
    num_tensors = cursor.count("tensors", _SMALLEST_TENSOR, MAX_ENTRIES)
    num_entries = cursor.count("entries of metadata", _SMALLEST_ENTRY, MAX_ENTRIES)
    metadata: dict[str, Any] = {}
    for _ in range(num_entries):
        key = cursor.string()
        if key in metadata:
            refuse_damaged(path, f"the metadata {key!r:.80} is there twice")
        metadata[key] = cursor.value(key, cursor.scalar("<I"))
    tensors: dict[str, TensorInfo] = {}
    for _ in range(num_tensors):
        name = cursor.string()
        if name in tensors:
            refuse_damaged(path, f"the tensor {name!r:.80} is there twice")
        tensors[name] = cursor.tensor_info(name)
    return Header(metadata, tensors, cursor.position)


def refuse_damaged(path: Path, reason: str) -> NoReturn:
    """Refuse a file that contradicts itself."""
    raise UserError(f"{path} is damaged: {reason}", fix="fetch or export the model again") from None


class _Cursor:
    """Reads forward through a file and never beyond its end."""

    def __init__(self, data: NDArray[np.uint8], path: Path) -> None:
        self._data = memoryview(data.data)
        self._path = path
        self.position = 0

    def take(self, num_bytes: int) -> memoryview:
        if num_bytes > len(self._data) - self.position:
            refuse_damaged(self._path, f"its header ends at byte {len(self._data)}, where the file ends")
        taken = self._data[self.position : self.position + num_bytes]
        self.position += num_bytes
        return taken

    def scalar(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def count(self, what: str, smallest_bytes: int, at_most: int) -> int:
        """Read how many of something follow, each of which takes some bytes at least."""
        count = self.scalar("<Q")
        if count > min(at_most, (len(self._data) - self.position) // smallest_bytes):
            refuse_damaged(self._path, f"it cannot hold the {count} {what} that its header announces")
        return count

    def string(self) -> str:
        length = self.scalar("<Q")
        try:
            return str(self.take(length), "utf-8")
        except UnicodeDecodeError:
            refuse_damaged(self._path, f"the text that ends at byte {self.position} is not UTF-8")

    def value(self, key: str, type_id: int) -> Any:
        if type_id in _SCALARS:
            return self._scalar_of_type(key, type_id)
        if type_id == _STRING:
            return self.string()
        if type_id == _ARRAY:
            return self._array(key)
        return refuse_damaged(self._path, f"the metadata {key!r:.80} has the unknown type {type_id}")

    def _scalar_of_type(self, key: str, type_id: int) -> Any:
        if type_id == _BOOL:
            byte = self.scalar("<B")
            if byte > 1:
                refuse_damaged(self._path, f"the metadata {key!r:.80} is neither true nor false")
            return bool(byte)
        return self.scalar(_SCALARS[type_id])

    def _array(self, key: str) -> Any:
        type_id = self.scalar("<I")
        if type_id == _STRING:
            return [self.string() for _ in range(self.count(f"strings of {key!r:.80}", 8, len(self._data)))]
        if type_id not in _SCALARS:
            refuse_damaged(self._path, f"the metadata {key!r:.80} is an array of the unknown type {type_id}")
        dtype = np.dtype(_SCALARS[type_id])
        count = self.count(f"values of {key!r:.80}", dtype.itemsize, len(self._data))
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def tensor_info(self, name: str) -> TensorInfo:
        num_dimensions = self.scalar("<I")
        if not 1 <= num_dimensions <= MAX_DIMENSIONS:
            refuse_damaged(self._path, f"the tensor {name!r:.80} has {num_dimensions} dimensions")
        columns_first = struct.unpack(f"<{num_dimensions}Q", self.take(8 * num_dimensions))
        return TensorInfo(tuple(reversed(columns_first)), self.scalar("<I"), self.scalar("<Q"))
