"""The options of commands that compute with a model: in which numbers, with how many threads, and where."""

from __future__ import annotations

from typing import Annotated

import typer

from stentor.runtime.dtypes import CACHE_DTYPES, DEVICES, DTYPES

DtypeOption = Annotated[
    str, typer.Option(help=f"Weights on a CPU: {', '.join(DTYPES)}; all but float32 are rounded, and faster.")
]
CacheDtypeOption = Annotated[str, typer.Option(help=f"Keys and values on a CPU: {', '.join(CACHE_DTYPES)}.")]
ThreadsOption = Annotated[int | None, typer.Option(help="Of a CPU; as many as prove fastest where none are named.")]
DeviceOption = Annotated[
    str, typer.Option(help=f"Where: {', '.join(DEVICES)} (a GPU if there is one). GPUs compute in torch, in float32.")
]
