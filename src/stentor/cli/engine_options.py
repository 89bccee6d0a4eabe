"""The options of commands that compute with a model: in which numbers, with how many threads, and where."""

from __future__ import annotations

from typing import Annotated

import typer

DtypeOption = Annotated[
    str, typer.Option(help="Weights on a CPU: float32, or int8, rounded and several times as fast.")
]
CacheDtypeOption = Annotated[str, typer.Option(help="Keys and values on a CPU: float32, or int8, for long texts.")]
ThreadsOption = Annotated[int | None, typer.Option(help="Of a CPU; as many as prove fastest where none are named.")]
DeviceOption = Annotated[
    str, typer.Option(help="cpu; cuda or mps, in torch and float32; auto: one of these if it is there.")
]
