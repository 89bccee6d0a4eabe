"""The reference's checkpoint layout, and the way back: the one place that knows its names.

Stentor2-12M-Preview was saved from a network whose block projections were `Int8LinearT4` modules: their float32 weights
are called `weight_master`, so that stock readers find no `weight` and fill in random numbers. Scales and zero points of
the rounding may stand beside them, and wrappers of torch leave prefixes before every name. What survives of its
published loader names only these parts; the rest is our reconstruction (docs/train.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from stentor.errors import UserError

Stored = TypeVar("Stored")
"""What carries a tensor: a tensor of torch, an array, or the bytes of one in a file."""

_PREFIXES = ("_orig_mod.", "module.")
"""What torch.compile and DistributedDataParallel put before every name, in any order and number."""
_PROJECTION = re.compile(r"(model\.layers\.\d+\.(?:self_attn\.[qkvo]|mlp\.(?:gate|up|down))_proj)\.weight")
_MASTER = ".weight_master"
_BUFFERS = (".weight_scale", ".weight_zero_point", ".scale", ".zero_point", ".weight_int8")
"""What the rounding leaves beside a master; all of it can be computed from the master."""


def to_reference(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Return tensors under the reference's names; the inverse of `from_reference`.

    Args:
        tensors: of a Llama, under Hugging Face's names.
    """
    return {_PROJECTION.sub(rf"\1{_MASTER}", name): tensor for name, tensor in tensors.items()}


def is_reference(names: Iterable[str]) -> bool:
    """Whether tensors are named as the reference's are, or as a wrapped module leaves them."""
    return any(name.endswith(_MASTER) or name.startswith(_PREFIXES) for name in names)


def from_reference(tensors: Mapping[str, Stored], *, origin: str) -> dict[str, Stored]:
    """Return tensors under Hugging Face's names.

    Args:
        tensors: as the reference names them: with prefixes or without, with buffers or without.
        origin: the file they came from, for messages.

    Raises:
        UserError: two tensors would get the same name, such as a weight beside its master; it is given.
    """
    found: dict[str, Stored] = {}
    for name, tensor in tensors.items():
        plain = _without_prefixes(name)
        if plain.endswith(_BUFFERS):
            continue
        if plain.endswith(_MASTER):
            plain = plain.removesuffix(_MASTER) + ".weight"
        if plain in found:
            raise UserError(
                f"{origin} holds {plain} twice under names of the reference's layout",
                fix="keep the one the model was trained with, and save the file again",
            )
        found[plain] = tensor
    return found


def _without_prefixes(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    return name
