"""Read plain weights from a `.safetensors` file as float32 arrays, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from stentor.errors import UserError
from stentor.model.config import ModelConfig
from stentor.model.names import check_shapes, check_tensors
from stentor.model.reference_layout import from_reference, is_reference
from stentor.model.weight_index import files_of, require_indexed
from stentor.sealed import require_sealed

_NUM_LENGTH_BYTES = 8
_PLAIN = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""Array types of plain weights; of a bfloat16, which numpy does not have, the bits."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """A tensor as the file holds it: the format's name of its type, its shape, its bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]


def read_safetensors(path: Path, config: ModelConfig) -> dict[str, NDArray[np.float32]]:
    """Return all tensors of a model under Hugging Face's names, whichever of the known layouts the file has.

    Args:
        path: the file, or the index of several.
        config: the model's sizes.

    Raises:
        UserError: a file is missing or damaged, or a tensor is missing, unexpected, mis-shaped, not finite or not
            plain weights.
        CorruptArtifactError: a file was altered since its folder was sealed.
    """
    files = {file: _map(file) for file in files_of(path)}
    stored = _stored_in(files, path)
    if is_reference(stored):
        stored = from_reference(stored, origin=str(path))
    check_shapes(config, {name: tensor.shape for name, tensor in stored.items()}, origin=str(path))
    arrays = {name: _as_float32(tensor, f"{path}: {name}") for name, tensor in stored.items()}
    check_tensors(config, arrays, origin=str(path))
    for file, data in files.items():
        require_sealed(file, data)
    return arrays


def bfloat16_to_float32(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the values of bfloat16 numbers given by their bits, which are the upper half of a float32's."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def require_finite(is_finite: bool, where: str) -> None:
    """Refuse weights that are no numbers."""
    if not is_finite:
        raise UserError(f"{where} holds NaN or infinity", fix="use an earlier checkpoint")


def _map(path: Path) -> NDArray[np.uint8]:
    try:
        with safe_open(path, framework="numpy"):  # refuses every header that does not describe exactly this file
            return np.memmap(path, np.uint8, mode="r").view(np.ndarray)
    except FileNotFoundError:
        raise UserError(f"{path.parent} has no {path.name}", fix="fetch or export the model again") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error})", fix="fetch or export the model again") from None


def _stored_in(files: Mapping[Path, NDArray[np.uint8]], path: Path) -> dict[str, _Stored]:
    """Return the tensors of all files, each of which must lie in the file that the index `path` names."""
    stored: dict[str, _Stored] = {}
    places: dict[str, str] = {}
    for file, data in files.items():
        for name, tensor in _tensors_of(data).items():
            if name in stored:
                raise UserError(f"{file} holds {name}, which {places[name]} holds too", fix="export the model again")
            stored[name], places[name] = tensor, file.name
    require_indexed(path, places)
    return stored


def _tensors_of(data: NDArray[np.uint8]) -> dict[str, _Stored]:
    begin = _NUM_LENGTH_BYTES + int.from_bytes(data[:_NUM_LENGTH_BYTES].tobytes(), "little")
    header: dict[str, Any] = json.loads(data[_NUM_LENGTH_BYTES:begin].tobytes())
    header.pop("__metadata__", None)
    payload = data[begin:]
    return {
        name: _Stored(entry["dtype"], tuple(entry["shape"]), payload[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }


def _as_float32(tensor: _Stored, where: str) -> NDArray[np.float32]:
    """Return the values in memory of their own."""
    if tensor.dtype not in _PLAIN:
        raise UserError(f"{where} holds {tensor.dtype}, not plain weights", fix="export it in float32")
    raw = tensor.data.view(_PLAIN[tensor.dtype])
    with np.errstate(over="ignore"):  # a float64 that float32 cannot hold is refused below
        values = bfloat16_to_float32(raw) if tensor.dtype == "BF16" else raw.astype(np.float32)
    require_finite(bool(np.isfinite(values).all()), where)
    return values.reshape(tensor.shape)
