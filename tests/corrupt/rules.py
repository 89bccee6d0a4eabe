"""What a damaged file without a checksum may give when it is opened: exactly what its own bytes say, and no more."""

from __future__ import annotations

import gzip
import io
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_package
import pyarrow.parquet
import zstandard
from doors import ONNX_PROBES, Content, digest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import load
from samples import CONFIG

from stentor.model.gguf_header import Header, read_header
from stentor.model.gguf_names import hugging_face_name
from stentor.runtime.onnx_network import past_names

Rule = Callable[[bytes, bytes, Content, Content], bool]
"""Given the bytes and the content before and after the damage, whether the content after is right for these bytes."""


def differing(before: Content, after: Content) -> set[str]:
    """Return the parts that are not in both contents alike."""
    return {part for part in before.keys() | after.keys() if before.get(part) != after.get(part)}


def nothing(sound: bytes, damaged: bytes, before: Content, after: Content) -> bool:
    """No part may differ."""
    return False


def config(sound: bytes, damaged: bytes, before: Content, after: Content) -> bool:
    """Only settings that differ in the JSON: a changed rope_theta, a carrier that has the same tensors."""
    names = {"model_type": "carrier", "rope_parameters": "rope_theta"}
    keys = _keys_that_differ(json.loads(sound), json.loads(damaged))
    allowed = {f"config.{names.get(key, key)}" for key in keys}
    return differing(before, after) <= allowed


def _keys_that_differ(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    missing = object()
    return {key for key in one.keys() | other.keys() if repr(one.get(key, missing)) != repr(other.get(key, missing))}


def safetensors(sound: bytes, damaged: bytes, before: Content, after: Content) -> bool:
    """The tensors that the stock reader finds in these bytes."""
    found = {name: digest(array) for name, array in load(damaged).items()}
    return all(after[part] == found.get(part, before[part]) for part in after) and before.keys() == after.keys()


def gguf(sound: bytes, damaged: bytes, before: Content, after: Content) -> bool:
    """Settings and tokens where a header differs; tensors whose bytes, or whose entry in the header, differ."""
    one, other = (read_header(np.frombuffer(data, np.uint8), Path("it")) for data in (sound, damaged))
    is_header_same = sound[: one.size_bytes] == damaged[: other.size_bytes]
    allowed = {part for part in before.keys() | after.keys() if _is_setting(part) and not is_header_same}
    for name, info in other.tensors.items():
        if one.tensors.get(name) != info or _span(sound, one, name) != _span(damaged, other, name):
            allowed.add(hugging_face_name(name))
    return differing(before, after) <= allowed


def _is_setting(part: str) -> bool:
    return part.startswith(("config.", "tokenizer"))


def _span(data: bytes, header: Header, name: str) -> bytes:
    """Return the bytes from where a tensor begins to where the next one does."""
    begin = -(-header.size_bytes // 32) * 32
    first = header.tensors[name].offset
    later = [info.offset for info in header.tensors.values() if info.offset > first]
    return data[begin + first : begin + min(later, default=len(data))]


def tokenizer(sound: bytes, damaged: bytes, before: Content, after: Content) -> bool:
    """Any vocabulary: that text comes back, or that the slow twin gives the same ids, is checked at the door."""
    return sound != damaged


def special_tokens(sound: bytes, damaged: bytes, before: Content, after: Content) -> bool:
    """The special tokens that the table names."""
    return differing(before, after) <= {"tokenizer.special"}


def details(sound: bytes, damaged: bytes, before: Content, after: Content) -> bool:
    """What a manifest, or a header, that fits its seal says of the files: not what is in them."""
    return differing(before, after) <= {"train.losses", "validation.losses", "state", "train.header"}


def tensors(sound: bytes, damaged: bytes, before: Content, after: Content) -> bool:
    """Tensors of the training state alone."""
    return all(part.startswith("state.") for part in differing(before, after))


def recipe(sound: bytes, damaged: bytes, before: Content, after: Content) -> bool:
    """Settings that differ in the TOML."""
    one, other = (_flat(tomllib.loads(data.decode("utf-8-sig"))) for data in (sound, damaged))
    keys = {key for key in one.keys() | other.keys() if repr(one.get(key)) != repr(other.get(key))}
    is_preset = "model.preset" in keys
    return all(part in keys or (is_preset and part.startswith("model.")) for part in differing(before, after))


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def log(sound: bytes, damaged: bytes, before: Content, after: Content) -> bool:
    """Records that stand in the file as they are; none that is left of the sound ones may be missing."""
    there = {digest(record) for record in map(_record, damaged.split(b"\n")) if record is not None}
    left = set(damaged.split(b"\n"))
    kept = [json.loads(line) for line in sound.split(b"\n") if line and line in left]
    names = {f"{record['kind']} {record['step']}" for record in kept}
    return set(after.values()) <= there and names <= after.keys()


def _record(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def text(sound: bytes, damaged: bytes, before: Content, after: Content) -> bool:
    """The documents that another reader finds in these bytes."""
    if any("#" not in part and part.endswith("a.txt") for part in after):
        return after == {"0 a.txt": digest(damaged.removeprefix(b"\xef\xbb\xbf").decode(errors="replace"))}
    data = _unpacked(damaged)
    expected = _parquet_texts(data) if data[:4] == b"PAR1" else _line_texts(data)
    return list(after.values()) == [digest(text) for text in expected]


def _unpacked(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:4] == b"\x28\xb5\x2f\xfd" or data[1:4] == b"\x2a\x4d\x18":
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as file:
            return file.read()
    return data


def _line_texts(data: bytes) -> list[str]:
    found = []
    for line in data.split(b"\n"):
        record = _record(line.decode(errors="replace").encode())
        if isinstance(record, dict) and isinstance(record.get("text"), str):
            found.append(record["text"].encode(errors="replace").decode())
    return found


def _parquet_texts(data: bytes) -> list[str]:
    column = pyarrow.parquet.read_table(pyarrow.BufferReader(data), columns=["text"], use_threads=False)["text"]
    binary = column.cast(pyarrow.large_binary()).to_pylist()
    return [text.decode(errors="replace") for text in binary if text is not None]


def in_transformers(sound: bytes, damaged: bytes, before: Content, after: Content) -> bool:
    """A whole model; that its logits are finite is checked at the door, that its weights are there in its reader."""
    return sound != damaged


ONNX_TOLERANCE = 0.02
"""Between runtimes, of the largest logit: INT8 may round an activation up here and down there."""


def onnx(sound: bytes, damaged: bytes, before: Content, after: Content) -> bool:
    """The logits that the evaluator of the onnx package computes of these bytes, unless its numbers overflow."""
    if differing(before, after) != {"logits"}:
        return False
    try:
        found, expected = np.array(json.loads(after["logits"])), _evaluated(damaged)
    except Exception:  # of what it cannot compute it raises whatever its parts do
        return False
    if not np.isfinite(expected).all():
        return True
    return np.allclose(found, expected, rtol=0, atol=ONNX_TOLERANCE * float(np.abs(expected).max()))


def _evaluated(data: bytes) -> NDArray[np.float32]:
    """Return the logits of the door's tokens [K, V]."""
    graph, logits = ReferenceEvaluator(onnx_package.load_from_string(data)), []
    nothing = np.zeros((1, CONFIG.num_key_value_heads, 0, CONFIG.head_dim), dtype=np.float32)
    past: dict[str, Any] = dict.fromkeys(past_names(CONFIG), nothing)
    for ids, start in ONNX_PROBES:
        end = start + len(ids)
        given = {"input_ids": [ids], "attention_mask": np.ones((1, end)), "position_ids": [range(start, end)]}
        feed = {name: np.array(value, dtype=np.int64) for name, value in given.items()}
        with np.errstate(all="ignore"):
            made: list[Any] = list(graph.run(None, feed | past))  # pyright: ignore[reportArgumentType]
        logits.append(made[0][0])
        past = dict(zip(past, made[1:], strict=True))
    return np.concatenate(logits)
