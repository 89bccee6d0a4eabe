"""An exported ONNX graph as a network of ours; onnxruntime is imported only here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError, missing_extra
from stentor.model.config import ModelConfig
from stentor.model.config_file import parse_config
from stentor.model.locate import CONFIG_NAME
from stentor.runtime.cores import usable_cores
from stentor.runtime.network import require_readable
from stentor.runtime.onnx_file import check_onnx
from stentor.runtime.scoring import score_windows

try:
    # Most of its names come from compiled code, without types.
    onnxruntime: Any = importlib.import_module("onnxruntime")
except ImportError:
    raise missing_extra("onnxruntime", "export", needed_for="an ONNX model") from None

OrtValue = Any
"""An array of onnxruntime's own, which goes from one pass to the next without a copy."""
_FATAL = 4
"""What onnxruntime says on its own; whatever it raises is told anyway."""
_FIX = "export or fetch it again"


class OnnxNetwork:
    """A `CachedNetwork` over a session of onnxruntime, which is given its own keys and values back each time.

    Unlike on the CPU's own engine, logits depend on how many tokens are read at once: in their last bits, or, where
    activations are rounded together (dynamic INT8), visibly.

    Args:
        session: of a graph with the inputs and outputs that `export.onnx_graph` describes.
        config: its sizes.
        path: of its file, for messages.
        num_sequences: that it can remember.
    """

    def __init__(self, session: Any, config: ModelConfig, path: Path, *, num_sequences: int = 1) -> None:
        self.config = config
        self._session, self._path = session, path
        self._pasts: list[dict[str, OrtValue]] = [_empty_past(config) for _ in range(num_sequences)]

    def extend(
        self, token_ids: Sequence[int], start: int, *, all_scored: bool = False, sequence: int = 0
    ) -> NDArray[np.float32]:
        """Read tokens of a sequence and return the logits after each [K, V] or the last [1, V]; see `CachedNetwork`."""
        require_readable(self.config, token_ids, start, start + len(token_ids) - 1)
        end = start + len(token_ids)
        given = {
            "input_ids": np.array([token_ids], dtype=np.int64),
            "attention_mask": np.ones((1, end), dtype=np.int64),
            "position_ids": np.arange(start, end, dtype=np.int64)[None],
        }
        past = _cropped(self._pasts[sequence], start)
        feed = {name: _array(array) for name, array in given.items()}
        logits, *present = self._computed({**feed, **past})
        self._require_shapes(logits, present, num_tokens=len(token_ids), end=end)
        self._pasts[sequence] = dict(zip(past, present, strict=True))
        logits_KV = logits.numpy()[0]
        if not logits_KV.max() < np.inf:  # NaN is not, either
            raise self._refusal("its predictions are not numbers")
        return logits_KV if all_scored else logits_KV[-1:]

    def _computed(self, feed: Mapping[str, OrtValue]) -> list[OrtValue]:
        try:
            return self._session.run_with_ort_values(None, feed)
        except Exception as error:  # its exceptions have no common base but this
            raise self._refusal(_reason(error)) from None

    def _require_shapes(self, logits: OrtValue, present: Sequence[OrtValue], *, num_tokens: int, end: int) -> None:
        """Refuse what a graph made if it does not fit: of its own signature onnxruntime does no more than warn."""
        config = self.config
        cached = [1, config.num_key_value_heads, end, config.head_dim]
        if logits.shape() != [1, num_tokens, config.vocab_size] or any(value.shape() != cached for value in present):
            raise self._refusal(f"what it makes has another shape than its {CONFIG_NAME} says")

    def _refusal(self, reason: str) -> UserError:
        return UserError(f"{self._path} cannot be computed: {reason}", fix=_FIX)

    def extend_each(
        self, token_ids: Sequence[int], positions: Sequence[int], sequences: Sequence[int]
    ) -> NDArray[np.float32]:
        """Read a token of each of some sequences, and return the logits after each [K, V]; see `CachedNetwork`."""
        each = zip(token_ids, positions, sequences, strict=True)
        return np.concatenate([self.extend([token], position, sequence=sequence) for token, position, sequence in each])

    def share(self, length: int) -> None:
        """Let all sequences begin as the first one does; see `CachedNetwork`."""
        first = _cropped(self._pasts[0], length)
        self._pasts = [first] * len(self._pasts)  # what is past is read, never written to

    def fresh(self, num_sequences: int = 1) -> OnnxNetwork:
        """Return a network of the same weights that has read nothing; see `CachedNetwork`."""
        return OnnxNetwork(self._session, self.config, self._path, num_sequences=num_sequences)

    def window_nats(self, inputs_BT: NDArray[np.integer], targets_BT: NDArray[np.integer]) -> NDArray[np.floating]:
        """Return -ln p of targets; see `measure.Scorer`."""
        return score_windows([self.fresh()], inputs_BT, targets_BT)


def past_names(config: ModelConfig) -> list[str]:
    """Return the inputs of keys and values, layer after layer; the outputs say `present` for `past_key_values`."""
    return [f"past_key_values.{layer}.{kind}" for layer in range(config.num_hidden_layers) for kind in ("key", "value")]


def onnx_folder(path: Path) -> Path:
    """Return the folder that has the config.json and the tokenizer of an .onnx file: its own, or the one above.

    Raises:
        UserError: neither has one.
    """
    folders = (path.absolute().parent, path.absolute().parent.parent)
    for folder in folders:
        if (folder / CONFIG_NAME).is_file():
            return folder
    raise UserError(
        f"{path} has no {CONFIG_NAME} beside it or in the folder above",
        fix="keep the files of an export together: `stentor export MODEL FOLDER --to onnx` makes them",
    )


def open_onnx(path: Path, *, num_threads: int | None = None) -> OnnxNetwork:
    """Open an .onnx file with onnxruntime, on the CPU.

    Args:
        path: the file, with its config.json beside it or in the folder above.
        num_threads: that compute; None takes all cores that this process may use.

    Raises:
        UserError: it is damaged, onnxruntime does not open it, or it is no graph of a language model with keys and
            values.
        CorruptArtifactError: it was altered since its folder was sealed.
    """
    config = parse_config(onnx_folder(path) / CONFIG_NAME)
    check_onnx(path, config)
    onnxruntime.set_default_logger_severity(_FATAL)
    options = onnxruntime.SessionOptions()
    # Left to itself onnxruntime counts the machine's cores, not those of the container it is in.
    options.intra_op_num_threads = num_threads or max(1, int(usable_cores()))
    options.inter_op_num_threads = 1
    # Threads that spin while they wait take cores from each other: beside other work two were slower than one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _FATAL
    try:
        # Where it fails, a fallback would try the same once more, and print what it does.
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
    except Exception as error:  # its exceptions have no common base but this
        raise UserError(f"onnxruntime does not open {path}: {_reason(error)}", fix=_FIX) from None
    _require_signature(session, config, path)
    network = OnnxNetwork(session, config, path)
    network.fresh().extend([0], 0)  # many a damage shows only when it computes
    return network


def _reason(error: Exception) -> str:
    """Return the first line of what onnxruntime says."""
    first = str(error).strip().partition("\n")[0]
    return f"{first:.300}"


def _require_signature(session: Any, config: ModelConfig, path: Path) -> None:
    """Refuse a graph that does not take and give what we give and take."""
    given, made = session.get_inputs(), session.get_outputs()
    # The names of an absurd number of layers would fill the memory.
    past = past_names(replace(config, num_hidden_layers=min(config.num_hidden_layers, len(given))))
    inputs = ["input_ids", "attention_mask", "position_ids", *past]
    outputs = ["logits", *(name.replace("past_key_values", "present") for name in past)]
    found = [value.name for value in given], [value.name for value in made]
    if found != (inputs, outputs):
        wrong = sorted({*inputs, *outputs} ^ {*found[0], *found[1]}) or ["their order"]
    else:
        heads = [config.num_key_value_heads, config.head_dim]
        wrong = [value.name for value in given[-len(past) :] if value.shape[1::2] != heads]
    if wrong:
        raise UserError(
            f"{path} is not the graph that its {CONFIG_NAME} describes: its inputs and outputs differ in {wrong[0]}",
            fix="use the files of one export, made by `stentor export MODEL FOLDER --to onnx`",
        )


def _array(array: NDArray) -> OrtValue:
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _empty_past(config: ModelConfig) -> dict[str, OrtValue]:
    nothing = np.zeros((1, config.num_key_value_heads, 0, config.head_dim), dtype=np.float32)
    return {name: _array(nothing) for name in past_names(config)}


def _cropped(past: Mapping[str, OrtValue], length: int) -> dict[str, OrtValue]:
    """Return keys and values of the first tokens, so many of them."""
    if next(iter(past.values())).shape()[2] == length:
        return dict(past)
    return {name: _array(np.ascontiguousarray(value.numpy()[:, :, :length])) for name, value in past.items()}
