"""The forms that a model can take, each with how to make it, what computes it, and how long a token takes there.

A form is one entry of `FORMS`; another one is added by writing a function that opens it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stentor.artifacts import staged_directory
from stentor.bench.process import measure_once
from stentor.bench.setting import Request, Setting, Work
from stentor.errors import UserError
from stentor.model.locate import WEIGHTS_NAME
from stentor.model.weights import read_weights
from stentor.runtime.cpu import CpuNetwork
from stentor.runtime.network import CachedNetwork

if TYPE_CHECKING:
    from stentor.export.source import Source

POSITION, NEW_TOKENS, REPEATS = 128, 16, 5
"""Where tokens are timed: after so many, so many of them, so often."""
_LONG_SECONDS = 2
"""What takes longer than this is timed once."""
_TORCH, _LLAMA_CPP, _ONNX = ("torch", "transformers"), ("torch", "gguf", "xllamacpp"), ("torch", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Opened:
    """A form that is ready.

    Attributes:
        size_bytes: on disk.
        network: that computes with its weights.
        token_seconds: measures what a token takes, where something runs it here.
    """

    size_bytes: int
    network: CachedNetwork
    token_seconds: Callable[[], float | None]


class Workshop:
    """Makes the files of one model that forms are opened from, each once, in a folder that is thrown away.

    Args:
        model: a model folder, a run folder, a .gguf file or a Hub id.
        folder: that is empty.
        calibrate: a source of text to round for.
        num_threads: that compute.
    """

    def __init__(self, model: str | Path, folder: Path, *, calibrate: str | None, num_threads: int) -> None:
        from stentor.export.source import read_source

        self.source: Source = read_source(model, dtype="float32")
        self.calibrate, self.num_threads = calibrate, num_threads
        self._folder = folder

    @property
    def context_length(self) -> int:
        """Tokens that the model can read."""
        return self.source.config.max_position_embeddings

    @cached_property
    def plain_folder(self) -> Path:
        """The model in Hugging Face layout and float32."""
        return self.huggingface("float32")

    def huggingface(self, dtype: str) -> Path:
        """Return a folder in Hugging Face layout."""
        from stentor.export.huggingface import DTYPES
        from stentor.model.folder import write_model_folder

        path = self._folder / dtype
        with staged_directory(path, kind="model") as staging:
            write_model_folder(staging, self.source.config, self.source.tensors, None, dtype=DTYPES[dtype])
        return path

    def gguf(self, dtype: str, *, calibrate: str | None = None) -> Path:
        """Return a .gguf file."""
        from stentor.artifacts import open_file
        from stentor.export.gguf import write_source

        path = self._folder / f"{dtype}.gguf"
        with open_file(path) as partial_file:
            write_source(self.source, Path(partial_file.name), dtype=dtype, name="model", calibrate=calibrate)
        return path

    @cached_property
    def onnx_folder(self) -> Path:
        """The graphs `float32.onnx` and `int8.onnx`."""
        from stentor.bench.forms import write_graphs

        arrays = {name: tensor.numpy() for name, tensor in self.source.tensors.items()}
        return write_graphs(self.source.config, arrays, self._folder / "onnx")

    def seconds_in(self, engine: str, path: Path, dtype: str) -> float:
        """Return what a token takes in one of `bench.setting.ENGINES`, in a process of its own."""
        from stentor.bench.measure import token_ids

        work = Work(prompt_lengths=(16,), positions=(POSITION,), num_new_tokens=NEW_TOKENS, repeats=REPEATS)
        work = work.within(self.context_length)
        setting = Setting(
            engine=engine,
            dtype=dtype,
            cache_dtype="float16" if engine == "xllamacpp" else "float32",
            attention="flash" if engine == "xllamacpp" else "",
            num_threads=self.num_threads,
        )
        ids = token_ids(read_weights(self.plain_folder), work.num_tokens)
        measured = measure_once(Request(path=str(path), setting=setting, work=work, token_ids=ids))
        return measured.decode_seconds[work.positions[0]]

    def opened_model(self, model: Any, size_bytes: int) -> Opened:
        """Return a model of transformers, which is timed in this process."""
        from stentor.bench.in_transformers import GeneratingEngine
        from stentor.runtime.transformers_network import TransformersNetwork

        work = Work(positions=(POSITION,), num_new_tokens=NEW_TOKENS).within(self.context_length)
        engine = GeneratingEngine(model)

        def seconds() -> float:
            ids = [1] * work.positions[0]
            first = engine.decode(ids, work.num_new_tokens)
            again = REPEATS if first * work.num_new_tokens < _LONG_SECONDS else 0
            return min([first, *(engine.decode(ids, work.num_new_tokens) for _ in range(again))])

        return Opened(size_bytes, TransformersNetwork(model), seconds)


@dataclass(frozen=True, slots=True)
class Form:
    """A way to store a model, or to open it.

    Attributes:
        name: in tables.
        program: that makes its tokens.
        made_by: the command, or the call, that makes it.
        packages: that it needs.
        open: makes it.
    """

    name: str
    program: str
    made_by: str
    packages: tuple[str, ...]
    open: Callable[[Workshop], Opened]


def _folder(workshop: Workshop, *, dtype: str) -> Opened:
    path = workshop.plain_folder if dtype == "float32" else workshop.huggingface(dtype)
    return workshop.opened_model(_model(path, dtype), (path / WEIGHTS_NAME).stat().st_size)


def _dynamic_int8(workshop: Workshop) -> Opened:
    from stentor.export.torch_forms import quantize_dynamic_int8

    path = workshop.plain_folder
    return workshop.opened_model(quantize_dynamic_int8(_model(path, "float32")), (path / WEIGHTS_NAME).stat().st_size)


def _bitsandbytes(workshop: Workshop, *, form: str) -> Opened:
    from stentor.export.torch_forms import open_bitsandbytes

    path = workshop.plain_folder
    with contextlib.redirect_stderr(io.StringIO()):
        model = open_bitsandbytes(path, form)
    return workshop.opened_model(model, (path / WEIGHTS_NAME).stat().st_size)


def _gguf(workshop: Workshop, *, dtype: str) -> Opened:
    return _opened_gguf(workshop, workshop.gguf(dtype), dtype)


def _calibrated(workshop: Workshop, *, dtype: str) -> Opened:
    if workshop.calibrate is None:
        raise UserError("needs --calibrate TEXT")
    return _opened_gguf(workshop, workshop.gguf(dtype, calibrate=workshop.calibrate), dtype)


def _opened_gguf(workshop: Workshop, path: Path, dtype: str) -> Opened:
    read = read_weights(path)
    network = CpuNetwork(read.config, read.arrays, num_threads=1, max_threads=workshop.num_threads)
    return Opened(path.stat().st_size, network, partial(workshop.seconds_in, "xllamacpp", path, dtype))


def _in_stentor(workshop: Workshop, *, dtype: str) -> Opened:
    path = workshop.plain_folder
    read = read_weights(path)
    network = CpuNetwork(read.config, read.arrays, dtype=dtype, num_threads=1, max_threads=workshop.num_threads)
    size_bytes = (path / WEIGHTS_NAME).stat().st_size
    return Opened(size_bytes, network, partial(workshop.seconds_in, "stentor", path, dtype))


def _onnx(workshop: Workshop, *, dtype: str) -> Opened:
    from stentor.runtime.onnx_network import open_onnx

    folder = workshop.onnx_folder
    path = folder / f"{dtype}.onnx"
    network = open_onnx(path, num_threads=workshop.num_threads)
    return Opened(path.stat().st_size, network, partial(workshop.seconds_in, "onnxruntime", folder, dtype))


def _model(path: Path, dtype: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(path), dtype=getattr(torch, dtype)).eval()


def _gguf_form(dtype: str) -> Form:
    return Form(f"gguf {dtype}", "llama.cpp", f"--to gguf --dtype {dtype}", _LLAMA_CPP, partial(_gguf, dtype=dtype))


def _calibrated_form(dtype: str) -> Form:
    made_by = f"--to gguf --dtype {dtype} --calibrate TEXT"
    return Form(f"gguf {dtype}, calibrated", "llama.cpp", made_by, _LLAMA_CPP, partial(_calibrated, dtype=dtype))


FORMS: tuple[Form, ...] = (
    *(
        Form(name, "transformers", f"--to huggingface --dtype {name}", _TORCH, partial(_folder, dtype=name))
        for name in ("float32", "float16", "bfloat16")
    ),
    Form("dynamic int8", "torch", "quantize_dynamic_int8(model)", _TORCH, _dynamic_int8),
    *(
        Form(
            f"bitsandbytes {form}",
            "transformers",
            f'open_bitsandbytes(folder, "{form}")',
            (*_TORCH, "bitsandbytes"),
            partial(_bitsandbytes, form=form),
        )
        for form in ("int8", "nf4")
    ),
    *(
        Form(f"stentor {dtype}", "stentor", f"--dtype {dtype}", (), partial(_in_stentor, dtype=dtype))
        for dtype in ("int8", "int4")
    ),
    *(
        Form(f"onnx {dtype}", "onnxruntime", "--to onnx", _ONNX, partial(_onnx, dtype=dtype))
        for dtype in ("float32", "int8")
    ),
    *map(_gguf_form, ("float16", "int8", "q8_0", "q6_k", "q5_1", "q5_k_m", "q5_0")),
    _calibrated_form("q5_0"),
    *map(_gguf_form, ("q4_1", "q4_k_m", "q4_0")),
    _calibrated_form("q4_0"),
)
"""The first is what all others are compared with."""
