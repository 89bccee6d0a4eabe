"""Check an .onnx file before onnxruntime computes it: weights that are numbers, and no size beyond the model's.

onnxruntime may turn a weight that is no number into predictions that are some, and makes an array of any size that it
is told to. What else is wrong with a graph it finds by itself. The protobuf is read where it lies, and is not copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError
from stentor.model.config import ModelConfig
from stentor.sealed import require_sealed

_NUMBER, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
"""How a field is written; its tag is this and 8 times its number."""
_MODEL_GRAPH = 7 << 3 | _BYTES
_GRAPH_NODE, _GRAPH_CONSTANT = 1 << 3 | _BYTES, 5 << 3 | _BYTES
_NODE_INPUT, _NODE_OPERATION, _NODE_ATTRIBUTE = 1 << 3 | _BYTES, 4 << 3 | _BYTES, 5 << 3 | _BYTES
_ATTRIBUTE_WHOLE = 3 << 3 | _NUMBER
_TENSOR_TYPE, _TENSOR_NAME, _TENSOR_DATA = 2 << 3 | _NUMBER, 8 << 3 | _BYTES, 9 << 3 | _BYTES
_TENSOR_FLOATS, _TENSOR_WHOLES = 4 << 3 | _BYTES, 7 << 3 | _BYTES
_TYPES = {1: "<f4", 7: "<i8", 10: "<f2"}
"""Of the constants that are looked at."""
_SIZED_BY_NUMBERS = {b"ConstantOfShape", b"Expand", b"Pad", b"Range", b"Tile"}
"""Operations that are told how much to make; others make as much as they are given."""
_MOST_VARINT_BYTES = 10
_FIX = "export or fetch it again"


class _Field(NamedTuple):
    """A field of a protobuf message: its tag, and its number or its bytes."""

    tag: int
    value: Any


def check_onnx(path: Path, config: ModelConfig) -> None:
    """Refuse a file that is no protobuf, or whose constants cannot be those of such a model.

    Args:
        path: the file.
        config: the sizes of its model.

    Raises:
        UserError: it is damaged.
        CorruptArtifactError: it was altered since its folder was sealed.
    """
    try:
        data = np.memmap(path, np.uint8, mode="r")
    except (OSError, ValueError) as error:  # a file without a byte cannot be mapped
        raise UserError(f"{path} cannot be read ({error})", fix=_FIX) from None
    require_sealed(path, data)
    try:
        parts = [part for tag, graph in _fields(data.data) if tag == _MODEL_GRAPH for part in _fields(graph)]
        constants = dict(_constant(part) for tag, part in parts if tag == _GRAPH_CONSTANT)
        _require_finite(constants)
        for node in (list(_fields(part)) for tag, part in parts if tag == _GRAPH_NODE):
            _require_attributes(node)
            _require_size(node, constants, _largest_size(config))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}", fix=_FIX) from None


def _constant(tensor: memoryview) -> tuple[bytes, NDArray]:
    """Return the name and the values of a constant; none of a type that is not looked at."""
    fields = dict(_fields(tensor))
    name, dtype = bytes(fields.get(_TENSOR_NAME, b"")), _TYPES.get(fields.get(_TENSOR_TYPE, 0))
    if dtype and _TENSOR_DATA in fields:
        return name, np.frombuffer(fields[_TENSOR_DATA], dtype)
    if dtype == "<i8":
        return name, _listed(fields.get(_TENSOR_WHOLES, b""))
    return name, np.frombuffer(fields.get(_TENSOR_FLOATS, b""), "<f4")


def _listed(numbers: memoryview | bytes) -> NDArray[np.int64]:
    """Return whole numbers that are written one by one."""
    values, place = [], 0
    while place < len(numbers):
        value, place = _varint(numbers, place)
        values.append(_signed(value))
    return np.array(values, dtype=np.int64)


def _signed(value: int) -> int:
    """Return a whole number as it is meant: a negative one is written as what it lacks to 2 to the 64."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _require_finite(constants: dict[bytes, NDArray]) -> None:
    for name, values in constants.items():
        if values.size > 1 and not np.isfinite(values).all():  # a number alone may be what a mask is made of
            raise ValueError(f"{name.decode(errors='replace'):.80} holds NaN or infinity")


def _require_attributes(node: list[_Field]) -> None:
    """Refuse an axis, or the like, of which onnxruntime would take the lower half without a word."""
    for attribute in (value for tag, value in node if tag == _NODE_ATTRIBUTE):
        for value in (_signed(value) for tag, value in _fields(attribute) if tag == _ATTRIBUTE_WHOLE):
            if not -(1 << 31) <= value < 1 << 31:
                raise ValueError(f"an attribute is {value}, more than 32 bits hold")


def _require_size(node: list[_Field], constants: dict[bytes, NDArray], largest: int) -> None:
    """Refuse a node that is told to make more than any size of the model."""
    if not any(tag == _NODE_OPERATION and bytes(value) in _SIZED_BY_NUMBERS for tag, value in node):
        return
    for name in (bytes(value) for tag, value in node if tag == _NODE_INPUT):
        values = constants.get(name, np.empty(0))
        if values.dtype == np.int64 and values.size and max(-int(values.min()), int(values.max())) > largest:
            raise ValueError(f"it makes an array by the numbers {values[:8].tolist()}, the model has no such size")


def _largest_size(config: ModelConfig) -> int:
    heads = config.num_attention_heads * config.head_dim
    return max(config.vocab_size, config.max_position_embeddings, config.hidden_size, config.intermediate_size, heads)


def _fields(message: memoryview) -> Iterator[_Field]:
    """Yield the fields of a protobuf message.

    Raises:
        ValueError: it is none.
    """
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        if (written := tag & 7) == _NUMBER:
            value, place = _varint(message, place)
            yield _Field(tag, value)
            continue
        if written == _BYTES:
            length, place = _varint(message, place)
        elif written in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if written == _EIGHT_BYTES else 4
        else:
            raise ValueError("it is no protobuf")
        if length > len(message) - place:
            raise ValueError("a field of its protobuf is longer than what it is part of")
        yield _Field(tag, message[place : place + length])
        place += length


def _varint(message: memoryview | bytes, place: int) -> tuple[int, int]:
    """Return the number that is written at a place, seven bits a byte, and the place after it."""
    number = 0
    for index, byte in enumerate(message[place : place + _MOST_VARINT_BYTES]):
        number |= (byte & 127) << 7 * index
        if byte < 128:
            return number, place + index + 1
    raise ValueError("a number of its protobuf does not end")
