"""One model in the form that each engine opens, in a temporary folder; and which engines are here at all."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stentor.bench.setting import ENGINES
from stentor.errors import MissingDependencyError, StentorError, UserError
from stentor.model.config import ModelConfig
from stentor.model.quantized import as_float32
from stentor.model.weights import Weights

LLAMA_CPP_DTYPE = "q8_0"
_PACKAGES = {
    "stentor": (),
    "xllamacpp": ("xllamacpp", "gguf", "torch"),
    "llama_cpp": ("llama_cpp", "gguf", "torch"),
    "transformers": ("transformers", "torch"),
    "onnxruntime": ("onnxruntime", "onnx"),
}


@dataclass(frozen=True, slots=True)
class Forms:
    """Where each engine finds the model, and why some cannot be measured."""

    paths: dict[str, str]
    not_measured: dict[str, str]


@contextlib.contextmanager
def prepared(model: Weights, engines: Sequence[str] = tuple(ENGINES)) -> Iterator[Forms]:
    """Write a model in all forms that are needed; they are gone when the context ends.

    Args:
        model: as it was read.
        engines: that are wanted.
    """
    paths: dict[str, str] = {}
    not_measured: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="stentor-bench-") as folder:
        for engine in engines:
            try:
                _require_packages(engine)
                paths[engine] = str(_FORMS[engine](model, Path(folder)))
            except StentorError as error:
                not_measured[engine] = error.message
        yield Forms(paths, not_measured)


def _require_packages(engine: str) -> None:
    missing = [package for package in _PACKAGES[engine] if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingDependencyError(f"not installed: {', '.join(missing)}")


def _as_it_is(model: Weights, folder: Path) -> Path:
    return model.origin


def _gguf(model: Weights, folder: Path) -> Path:
    from stentor.export.gguf_file import write_gguf
    from stentor.export.rwkv import rwkv_vocabulary
    from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer

    path = folder / "model.gguf"
    if path.exists():
        return path
    tokenizer, arrays = model.tokenizer, {name: as_float32(array) for name, array in model.arrays.items()}
    if tokenizer is None:
        raise UserError("a GGUF file needs the model's tokenizer, and there is none")
    is_mapped = isinstance(tokenizer, TokenMonsterTokenizer)
    mapped = (rwkv_vocabulary(tokenizer, model.config.vocab_size), {}) if is_mapped else None
    write_gguf(path, model.config, arrays, tokenizer, dtype=LLAMA_CPP_DTYPE, name="model", mapped=mapped)
    return path


def _hugging_face(model: Weights, folder: Path) -> Path:
    from stentor.artifacts import staged_directory
    from stentor.model.folder import read_model_folder, write_model_folder

    path = folder / "huggingface"
    with staged_directory(path, kind="model") as staging:
        write_model_folder(staging, model.config, read_model_folder(model.origin).tensors, None)
    return path


def _onnx(model: Weights, folder: Path) -> Path:
    arrays = {name: as_float32(array) for name, array in model.arrays.items()}
    return write_graphs(model.config, arrays, folder / "onnx")


def write_graphs(config: ModelConfig, arrays: Mapping[str, NDArray[np.float32]], folder: Path) -> Path:
    """Write `float32.onnx` and `int8.onnx` into a new folder, and return it."""
    from stentor.artifacts import staged_directory
    from stentor.export.onnx_graph import build_onnx
    from stentor.export.onnx_quantize import quantize_onnx_int8
    from stentor.model.folder import write_settings

    with staged_directory(folder, kind="model") as staging:
        write_settings(staging, config, None)
        staging.write("float32.onnx", build_onnx(config, arrays).SerializeToString())
        quantize_onnx_int8(staging.path / "float32.onnx", staging.path / "int8.onnx")
    return folder


_FORMS: dict[str, Callable[[Weights, Path], Path]] = {
    "stentor": _as_it_is,
    "xllamacpp": _gguf,
    "llama_cpp": _gguf,
    "transformers": _hugging_face,
    "onnxruntime": _onnx,
}
