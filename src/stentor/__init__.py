"""Stentor: train, measure, compress and ship tiny language models.

The public names below are imported when they are first used, so that `import stentor` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stentor.version import __version__

if TYPE_CHECKING:
    from stentor.config import Recipe
    from stentor.evaluate.text import evaluate
    from stentor.model.measure import Evaluation
    from stentor.model.stentor2 import load_stentor2
    from stentor.run import train
    from stentor.runtime.engine import load
    from stentor.tokenizer import Tokenizer

_HOME = {
    "Evaluation": "stentor.model.measure",
    "Recipe": "stentor.config",
    "Tokenizer": "stentor.tokenizer",
    "load": "stentor.runtime.engine",
    "load_stentor2": "stentor.model.stentor2",
}
_CALLABLE_STAGES = ("evaluate", "train")

__all__ = ["Evaluation", "Recipe", "Tokenizer", "__version__", "evaluate", "load", "load_stentor2", "train"]


def __getattr__(name: str) -> Any:
    if name in _CALLABLE_STAGES:
        return import_module(f"stentor.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'stentor' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
