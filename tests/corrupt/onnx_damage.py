"""Ways to damage an ONNX graph: its protobuf as bytes, and what a sound protobuf says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

from damage import COUNTS, OUTSIDE, Damaged
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Change = Callable[[ModelProto, Random], object]
_BYTES = 2
_WIDTHS = {1: 8, 5: 4}
"""Of fields that have neither a number of seven bits a byte nor a length, by how they are written."""
_GRAPH, _NODE, _ATTRIBUTE, _SUBGRAPH = 7, 1, 5, 6
"""Numbers of the fields that lead from a model to a graph inside a node of its graph."""


class Field(NamedTuple):
    """Where a field of a protobuf stands.

    Attributes:
        start: of its tag.
        varint: the number that it is, or that says how long it is; None where it has neither.
        value: of what comes after.
        end: after it.
    """

    start: int
    varint: int | None
    value: int
    end: int


def fields_of(data: bytes, kind: Any = ModelProto.DESCRIPTOR, place: int = 0, end: int | None = None) -> list[Field]:
    """Return the fields of a sound message, and after each those within it."""
    found: list[Field] = []
    end = len(data) if end is None else end
    while place < end:
        start, (tag, place) = place, _varint(data, place)
        varint, width = None if tag & 7 in _WIDTHS else place, _WIDTHS.get(tag & 7, 0)
        if varint is not None:
            number, place = _varint(data, place)
            width = number if tag & 7 == _BYTES else 0
        field = Field(start, varint, place, place + width)
        found.append(field)
        inner = kind.fields_by_number[tag >> 3].message_type
        if inner is not None:
            found += fields_of(data, inner, field.value, field.end)
        place = field.end
    return found


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it."""
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place


def _as_varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


def boundaries(data: bytes) -> list[int]:
    """Return where the fields of a model begin, and what they hold."""
    return sorted({place for field in fields_of(data) for place in (field.start, field.value)})


def damaged_onnx(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    """Yield damages that only an ONNX graph can suffer.

    Args:
        data: a sound one.
        draw: of all choices.
        count: of each kind.
    """
    yield from _damaged_fields(data, draw, count)
    for kind, changes in _CHANGES.items():
        for change in [draw.choice(changes) for _ in range(count)]:
            yield Damaged(kind, _changed(data, draw, change))
    for version in (0, 10**6, 1 << 62, -1):
        model = ModelProto.FromString(data)
        model.ir_version = version
        yield Damaged("newer version", model.SerializeToString())
        model = ModelProto.FromString(data)
        model.opset_import[0].version = version
        yield Damaged("newer version", model.SerializeToString())
    for depth in (20, 2000):
        yield Damaged("deep nesting", data + _nested(depth))


def _damaged_fields(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    """Damage the bytes between the values: lengths, tags and order."""
    fields = [field for field in fields_of(data) if field.varint is not None]
    for _ in range(2 * count):
        field = draw.choice(fields)
        assert field.varint is not None
        number = draw.choice([*COUNTS, field.end - field.value + draw.choice((-1, 1))])
        yield Damaged("absurd count", data[: field.varint] + _as_varint(max(0, number)) + data[field.value :])
        width = field.value - field.varint
        same = bytes([*[draw.choice((128, 255))] * (width - 1), draw.choice((0, 1, 127))])
        yield Damaged("absurd count", data[: field.varint] + same + data[field.value :])
    for _ in range(count):
        start = draw.choice(fields).start
        tag = draw.choice([draw.randrange(256), data[start] ^ draw.choice((1, 2, 3, 5, 8))])
        yield Damaged("wrong type", data[:start] + bytes([tag]) + data[start + 1 :])
        field = draw.choice(fields)
        yield Damaged("missing field", data[: field.start] + data[field.end :])
        yield Damaged("duplicate key", data[: field.end] + data[field.start : field.end] + data[field.end :])


def _nested(depth: int) -> bytes:
    """Return a graph within a node of a graph, and so on."""
    data = b""
    for _ in range(depth):
        for number in (_SUBGRAPH, _ATTRIBUTE, _NODE):
            data = bytes([number << 3 | _BYTES]) + _as_varint(len(data)) + data
    return bytes([_GRAPH << 3 | _BYTES]) + _as_varint(len(data)) + data


def _changed(data: bytes, draw: Random, change: Change) -> bytes:
    model = ModelProto.FromString(data)
    change(model, draw)
    return model.SerializeToString()


# --- changes that leave a sound protobuf ---

_SIGNED = (-(1 << 63), -(1 << 31), -(1 << 27), -2, -1, 2, 1 << 27, *COUNTS[:-2])
_PARTS = ("node", "initializer", "input", "output")
_TYPES = (*range(24), 1 << 30, -1)


def _of_the_future(model: ModelProto, draw: Random) -> None:
    draw.choice(model.graph.node).op_type = "OfTheFuture"


def _of_another_domain(model: ModelProto, draw: Random) -> None:
    draw.choice(model.graph.node).domain = "ai.onnx.future"


def _dimension(model: ModelProto, draw: Random) -> None:
    constant = draw.choice([constant for constant in model.graph.initializer if constant.dims])
    constant.dims[draw.randrange(len(constant.dims))] = draw.choice(_SIGNED)


def _more_dimensions(model: ModelProto, draw: Random) -> None:
    draw.choice(model.graph.initializer).dims.extend([1 << 31] * draw.choice((1, 2, 1000)))


def _signature_dimension(model: ModelProto, draw: Random) -> None:
    value = draw.choice([*model.graph.input, *model.graph.output])
    draw.choice(value.type.tensor_type.shape.dim).dim_value = draw.choice(_SIGNED)


def _whole_number(model: ModelProto, draw: Random) -> None:
    """Change a constant that is a shape, an axis, a position or a length."""
    _change_one(model, draw, TensorProto.INT64, _SIGNED)


def _not_finite(model: ModelProto, draw: Random) -> None:
    _change_one(model, draw, TensorProto.FLOAT, (float("nan"), float("inf"), -float("inf"), 3e38))


def _change_one(model: ModelProto, draw: Random, data_type: int, values: Sequence[float]) -> None:
    constant = draw.choice([constant for constant in model.graph.initializer if constant.data_type == data_type])
    array = numpy_helper.to_array(constant).copy()
    array.reshape(-1)[draw.randrange(array.size)] = draw.choice(values)
    constant.CopyFrom(numpy_helper.from_array(array, constant.name))


def _attribute(model: ModelProto, draw: Random) -> None:
    attribute = draw.choice([attribute for node in model.graph.node for attribute in node.attribute])
    number = draw.choice(_SIGNED)
    if attribute.ints:
        attribute.ints[draw.randrange(len(attribute.ints))] = number
    else:
        attribute.i = number


def _type_of_constant(model: ModelProto, draw: Random) -> None:
    draw.choice(model.graph.initializer).data_type = draw.choice(_TYPES)


def _type_of_signature(model: ModelProto, draw: Random) -> None:
    value = draw.choice([*model.graph.input, *model.graph.output])
    value.type.tensor_type.elem_type = draw.choice(_TYPES)


def _another_operation(model: ModelProto, draw: Random) -> None:
    known = sorted({node.op_type for node in model.graph.node})
    draw.choice(model.graph.node).op_type = draw.choice(
        [*known, "If", "Loop", "Scan", "Constant", "Identity", "", "\0"]
    )


def _type_of_attribute(model: ModelProto, draw: Random) -> None:
    attribute = draw.choice([attribute for node in model.graph.node for attribute in node.attribute])
    attribute.type = draw.choice(range(15))  # pyright: ignore[reportAttributeAccessIssue]


def _without(part: str) -> Change:
    def change(model: ModelProto, draw: Random) -> None:
        values = getattr(model.graph, part)
        del values[draw.randrange(len(values))]

    return change


def _without_values(model: ModelProto, draw: Random) -> None:
    draw.choice(model.graph.initializer).ClearField("raw_data")


def _without_inputs(model: ModelProto, draw: Random) -> None:
    node = draw.choice(model.graph.node)
    del node.input[draw.randrange(len(node.input)) :]


def _twice(part: str) -> Change:
    def change(model: ModelProto, draw: Random) -> None:
        values = getattr(model.graph, part)
        values.append(draw.choice(values))

    return change


def _rewired(model: ModelProto, draw: Random) -> None:
    """Let a node read what another one makes: often a circle, or another shape."""
    node, other = draw.choice(model.graph.node), draw.choice(model.graph.node)
    node.input[draw.randrange(len(node.input))] = draw.choice([other.output[0], node.output[0], "", "nowhere"])


def _swapped(model: ModelProto, draw: Random) -> None:
    one, other = draw.sample(list(model.graph.initializer), 2)
    one.raw_data, other.raw_data = other.raw_data, one.raw_data


def _outside(model: ModelProto, draw: Random) -> None:
    """Let a constant stand in another file."""
    constant = draw.choice(model.graph.initializer)
    length = draw.choice((str(len(constant.raw_data)), "-1", "9" * 30, "x"))
    place = {"location": draw.choice((*OUTSIDE, "../config.json")), "offset": "0", "length": length}
    constant.data_location = TensorProto.EXTERNAL
    constant.ClearField("raw_data")
    for key, value in place.items():
        constant.external_data.add(key=key, value=value)


def _large(model: ModelProto, draw: Random) -> None:
    """Let the logits wait for an array that takes more memory, or more time, than all that the model computes."""
    made = draw.choice((_filled, _counted))(model, draw.choice((1 << 28, 1 << 33, 1 << 62)))
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[0] = "small"
    made.append(helper.make_node("ReduceMin", ["large"], ["least"], keepdims=0))
    made.append(helper.make_node("Add", ["small", "least"], ["logits"]))
    model.graph.node.extend(made)


def _filled(model: ModelProto, size: int) -> list[NodeProto]:
    model.graph.initializer.append(helper.make_tensor("size", TensorProto.INT64, [1], [size]))
    return [helper.make_node("ConstantOfShape", ["size"], ["large"])]


def _counted(model: ModelProto, size: int) -> list[NodeProto]:
    for name, value in (("zero", 0), ("size", size), ("one", 1)):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [], [value]))
    return [
        helper.make_node("Range", ["zero", "size", "one"], ["numbers"]),
        helper.make_node("Cast", ["numbers"], ["large"], to=TensorProto.FLOAT),
    ]


_CHANGES: dict[str, tuple[Change, ...]] = {
    "absurd count": (_dimension, _more_dimensions, _signature_dimension, _whole_number, _large),
    "absurd number": (_whole_number, _not_finite, _attribute),
    "wrong type": (_type_of_constant, _type_of_signature, _another_operation, _type_of_attribute),
    "missing field": (*map(_without, _PARTS), _without_values, _without_inputs),
    "duplicate key": tuple(map(_twice, _PARTS)),
    "wrong place": (_rewired, _swapped),
    "newer version": (_of_the_future, _of_another_domain),
    "path traversal": (_outside,),
}
