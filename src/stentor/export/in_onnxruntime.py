"""Child process: run an exported graph in onnxruntime, in every way that users run it, and say what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stentor.export.consumer import Answer, Question, reply
from stentor.model.locate import ONNX_FOLDER, ONNX_NAME
from stentor.tokenizer.tokenmonster.load import is_tokenmonster

QUANTIZED_NAME = "model_quantized.onnx"
_STEPS = 24
Past = dict[str, NDArray[np.float32]]


def answer(question: Question) -> Answer:
    """Run both graphs of a folder and return logits of each way, one below the other [ways * positions, V]."""
    import onnxruntime

    folder = Path(question.path)
    plain = _Graph(onnxruntime, folder / ONNX_FOLDER / ONNX_NAME)
    quantized = _Graph(onnxruntime, folder / ONNX_FOLDER / QUANTIZED_NAME)
    length = len(question.window)
    half, most = length // 2, max(length - _STEPS, 1)
    ways = {
        "a prompt": plain.read(question.window, [length]),
        "a prompt in two pieces": plain.read(question.window, [half, length - half]),
        "single tokens": plain.read(question.window, [most, *[1] * (length - most)]),
        "a batch with padding": plain.read_padded(question.window, half),
        "a prompt, in INT8": quantized.read(question.window, [length]),
    }
    facts = {"version": onnxruntime.__version__, "ids": _token_ids(folder, question.strings), "ways": list(ways)}
    return Answer(facts, np.concatenate([logits_TV[question.positions] for logits_TV in ways.values()]))


class _Graph:
    """A session, used as transformers.js and Optimum use theirs: what it does not know of us, it cannot copy."""

    def __init__(self, onnxruntime: Any, path: Path) -> None:
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self._inputs = self._session.get_inputs()
        self._outputs = [value.name for value in self._session.get_outputs()]

    def read(self, window: list[int], pieces: list[int]) -> NDArray[np.float32]:
        """Read a sequence in pieces of some lengths, each after what came before; return all logits [T, V]."""
        ids_1T = np.array([window], dtype=np.int64)
        return self._read(ids_1T, np.ones_like(ids_1T), pieces)[0]

    def read_padded(self, window: list[int], half: int) -> NDArray[np.float32]:
        """Read a sequence beside its first two thirds, which are padded on the left; both count."""
        shorter = 2 * len(window) // 3
        padding = len(window) - shorter
        ids_2T = np.array([window, [0] * padding + window[:shorter]], dtype=np.int64)
        mask_2T = np.ones_like(ids_2T)
        mask_2T[1, :padding] = 0
        longer_TV, padded_TV = self._read(ids_2T, mask_2T, [half, len(window) - half])
        return np.concatenate([padded_TV[padding:], longer_TV[shorter:]])

    def _read(self, ids_BT: NDArray[np.int64], mask_BT: NDArray[np.int64], pieces: list[int]) -> NDArray[np.float32]:
        positions_BT = np.maximum(mask_BT.cumsum(axis=1) - 1, 0)
        past = {
            value.name: np.zeros((len(ids_BT), value.shape[1], 0, value.shape[3]), dtype=np.float32)
            for value in self._inputs
            if value.name.startswith("past_key_values")
        }
        logits, start = [], 0
        for length in pieces:
            end = start + length
            made = self._session.run(
                None,
                {
                    "input_ids": ids_BT[:, start:end],
                    "attention_mask": mask_BT[:, :end],
                    "position_ids": positions_BT[:, start:end],
                    **past,
                },
            )
            present = dict(zip(self._outputs, made, strict=True))
            logits.append(present.pop("logits"))
            past = {name.replace("present", "past_key_values"): value for name, value in present.items()}
            start = end
        return np.concatenate(logits, axis=1)


def _token_ids(folder: Path, strings: list[str]) -> list[list[int]]:
    """Return the ids that the folder's own file gives: in the library of `tokenizer.json`, or, of a .vocab, in ours."""
    if is_tokenmonster(folder):
        from stentor.tokenizer import Tokenizer

        return Tokenizer.load(folder).encode_batch(strings)
    from tokenizers import Tokenizer as PlainTokenizer

    read = PlainTokenizer.from_file(str(folder / "tokenizer.json"))
    return [encoding.ids for encoding in read.encode_batch(strings)]


if __name__ == "__main__":
    reply(answer)
