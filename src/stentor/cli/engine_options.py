"""The options of commands that compute with a model: in which numbers, with how many threads, and where."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stentor.cli.output import talk
from stentor.runtime.dtypes import CACHE_DTYPES, DEVICES, DTYPES, GPU_DTYPES

if TYPE_CHECKING:
    from stentor.runtime.engine import LanguageModel

PATIENCE_SECONDS = 3.0
STILL_LOADING = "still loading: on its first use here the engine is compiled for this CPU, once"

_TYPES = (
    f"Weights on a CPU: {', '.join(DTYPES)}; all but float32 are rounded, and faster. "
    f"On a GPU: {', '.join(GPU_DTYPES)}."
)
DtypeOption = Annotated[str | None, typer.Option("--dtype", help=_TYPES, show_default="float32")]
FastDtypeOption = Annotated[
    str | None, typer.Option("--dtype", help=_TYPES, show_default="int8; on a GPU bfloat16, if it has that")
]
CacheDtypeOption = Annotated[str, typer.Option(help=f"Keys and values on a CPU: {', '.join(CACHE_DTYPES)}.")]
ThreadsOption = Annotated[int | None, typer.Option(help="Of a CPU; as many as prove fastest where none are named.")]
DeviceOption = Annotated[
    str, typer.Option(help=f"Where: {', '.join(DEVICES)} (a GPU if there is one). GPUs compute in torch.")
]


def load_model(model: str, **engine: Any) -> LanguageModel:
    """Open a model as `engine.load` does, and say why it takes long where the CPU's own engine is what takes it.

    Args:
        model: its name.
        **engine: each of the options of `engine.load`.
    """
    from stentor.runtime.engine import LanguageModel
    from stentor.runtime.open import open_network

    timer = threading.Timer(PATIENCE_SECONDS, talk, (STILL_LOADING,))
    timer.daemon = True
    try:
        opened = open_network(model, on_compiling=timer.start, **engine)
    finally:
        timer.cancel()
    return LanguageModel(opened.network, opened.tokenizer, origin=opened.origin)
