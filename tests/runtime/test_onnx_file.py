"""What an .onnx file may not hold is refused before onnxruntime sees it; what it may hold is passed over."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from stentor.artifacts import staged_directory
from stentor.errors import CorruptArtifactError, UserError
from stentor.model.config import ModelConfig
from stentor.runtime.onnx_file import check_onnx

CONFIG = ModelConfig(vocab_size=300, hidden_size=64, intermediate_size=128, max_position_embeddings=64)
LARGEST = 300


def file_of(path, *constants, operation="Range", **attributes):
    """Write a graph of one node, and return its file."""
    node = helper.make_node(operation, ["zero", "many", "one"], ["made"], **attributes)
    made = helper.make_tensor_value_info("made", TensorProto.INT64, None)
    model = helper.make_model(helper.make_graph([node], "graph", [], [made], list(constants)))
    path.write_bytes(model.SerializeToString())
    return path


def listed(name, *values):
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], list(values))


def raw(name, *values, dtype: type[np.generic] = np.int64):
    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.onnx"


# --- sizes ---


@pytest.mark.parametrize("stored", [listed, raw])
@pytest.mark.parametrize("values", [(LARGEST,), (-LARGEST,), (0, 1, -1), ()])
def test_sizes_of_the_model_are_taken(path, stored, values):
    check_onnx(file_of(path, stored("many", *values)), CONFIG)


@pytest.mark.parametrize("stored", [listed, raw])
@pytest.mark.parametrize("value", [LARGEST + 1, -LARGEST - 1, 1 << 28, -(1 << 27), (1 << 63) - 1, -(1 << 63)])
@pytest.mark.parametrize("operation", ["Range", "ConstantOfShape", "Expand", "Tile", "Pad"])
def test_any_other_size_is_refused(path, stored, value, operation):
    file_of(path, stored("many", 2, value, 3), operation=operation)
    with pytest.raises(UserError, match=rf"m\.onnx is damaged: it makes an array by the numbers \[2, {value}, 3\]"):
        check_onnx(path, CONFIG)


def test_numbers_that_make_nothing_may_be_any(path):
    """Other programs write the largest number for `to the end`."""
    check_onnx(file_of(path, raw("many", (1 << 63) - 1), operation="Slice"), CONFIG)
    check_onnx(file_of(path, raw("unused", 1 << 40)), CONFIG)
    check_onnx(file_of(path, raw("many", 1e30, 2.0, dtype=np.float32)), CONFIG)


@pytest.mark.parametrize("field", ["vocab_size", "max_position_embeddings", "hidden_size", "intermediate_size"])
def test_the_largest_size_counts_whichever_it_is(path, field):
    sizes: dict[str, Any] = {
        "vocab_size": 8,
        "max_position_embeddings": 8,
        "hidden_size": 8,
        "intermediate_size": 8,
        field: 1000,
    }
    config = ModelConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=4)
    check_onnx(file_of(path, raw("many", 1000)), config)
    with pytest.raises(UserError, match="no such size"):
        check_onnx(file_of(path, raw("many", 1001)), config)


# --- attributes ---


@pytest.mark.parametrize("axis", [-(1 << 31), -1, 0, 2, (1 << 31) - 1])
def test_attributes_of_32_bits_are_taken(path, axis):
    check_onnx(file_of(path, operation="Softmax", axis=axis), CONFIG)


@pytest.mark.parametrize("axis", [1 << 31, -(1 << 31) - 1, 1 << 62, -(1 << 63)])
def test_larger_attributes_are_refused(path, axis):
    with pytest.raises(UserError, match=rf"m\.onnx is damaged: an attribute is {axis}, more than 32 bits hold"):
        check_onnx(file_of(path, operation="Softmax", keepdims=1, axis=axis), CONFIG)


def test_lists_and_other_attributes_may_be_any(path):
    """The ends of a slice, in old graphs, say `to the end` by the largest number."""
    check_onnx(file_of(path, operation="Slice", ends=[(1 << 63) - 1], alpha=1e30, mode="any"), CONFIG)


# --- weights ---


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_weights_that_are_no_numbers_are_refused(path, value, dtype):
    with pytest.raises(UserError, match=r"m\.onnx is damaged: layer\.weight holds NaN or infinity"):
        check_onnx(file_of(path, raw("layer.weight", 1, value, dtype=dtype)), CONFIG)
    with pytest.raises(UserError, match="scale holds NaN"):  # as onnxruntime's quantizer stores them
        check_onnx(file_of(path, helper.make_tensor("scale", TensorProto.FLOAT, [2], [1.0, value])), CONFIG)


def test_weights_that_are_numbers_and_one_that_masks_are_taken(path):
    weights = raw("w", 3e38, -3e38, 0, dtype=np.float32)
    check_onnx(file_of(path, weights, raw("mask", -np.inf, dtype=np.float32), raw("b", 255, dtype=np.uint8)), CONFIG)


# --- what is no protobuf ---


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0b", "it is no protobuf"),
        (b"\x3a\x05abcd", "a field of its protobuf is longer than what it is part of"),
        (b"\x3a" + b"\xff" * 9 + b"\x01", "is longer"),
        (b"\x3a" + b"\xff" * 10, "a number of its protobuf does not end"),
        (b"\x80", "does not end"),
        (b"\x3a\x02\x0a\x05", "is longer"),
        (b"\x0d\0\0", "is longer"),
        (b"PK\x03\x04" * 20, "no protobuf"),
    ],
)
def test_other_bytes_are_refused(path, data, reason):
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"m\.onnx is damaged: .*{reason}"):
        check_onnx(path, CONFIG)


def test_an_empty_or_missing_file_is_refused(path):
    for _ in range(2):
        with pytest.raises(UserError, match=rf"{re.escape(str(path))} cannot be read"):
            check_onnx(path, CONFIG)
        path.write_bytes(b"")


def test_a_field_that_is_not_known_is_passed_over(path):
    data = file_of(path, raw("many", 1 << 40)).read_bytes()
    path.write_bytes(b"\xf9\x07" + bytes(8) + b"\xfd\x07" + bytes(4) + b"\xf8\x07\x01" + data)
    with pytest.raises(UserError, match="no such size"):
        check_onnx(path, CONFIG)


def test_a_graph_in_two_pieces_is_one(path, tmp_path):
    """Protobuf joins a message that stands twice."""
    first = file_of(tmp_path / "1.onnx", raw("many", 1 << 40), operation="Neg").read_bytes()
    path.write_bytes(first + file_of(tmp_path / "2.onnx").read_bytes())
    with pytest.raises(UserError, match="no such size"):
        check_onnx(path, CONFIG)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bytes_crash_it(path, data):
    sound = file_of(path, listed("many", -1, 5), raw("w", 1, 2, dtype=np.float32)).read_bytes()
    place = data.draw(st.integers(0, len(sound) - 1))
    path.write_bytes(sound[:place] + data.draw(st.binary(max_size=12)) + sound[place + data.draw(st.integers(0, 9)) :])
    try:
        check_onnx(path, CONFIG)
    except UserError as error:
        assert str(path) in error.message  # noqa: PT017 - any input may be fine or not


# --- the seal ---


def test_the_seal_of_the_folder_above_counts(tmp_path):
    with staged_directory(tmp_path / "made", kind="model") as staging:
        staging.path.joinpath("onnx").mkdir()
        file_of(staging.path / "onnx" / "m.onnx", raw("w", 1, 2, dtype=np.float32))
    path = tmp_path / "made" / "onnx" / "m.onnx"
    check_onnx(path, CONFIG)
    path.write_bytes(path.read_bytes() + b"\x08\x01")
    with pytest.raises(CorruptArtifactError, match=r"m\.onnx does not match its checksum"):
        check_onnx(path, CONFIG)
