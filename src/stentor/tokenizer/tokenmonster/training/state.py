"""What training has found so far, on the disk: a killed run goes on from there and ends with the same vocabulary."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stentor.artifacts import LOCK_NAME, write_file

_TOKENS_FILE, _SEARCH_FILE = "tokens", "search"


@dataclass(slots=True)
class SearchState:
    """Where the search is.

    Attributes:
        step: rounds done, of pruning and of swapping.
        num_swaps: rounds of swapping among them.
        is_chosen: for each token of the pool, whether the best vocabulary so far has it.
        yields: for each token, the share of its occurrences that it was used for when it was last tried.
        num_tokens: of the text, in the best vocabulary of the wanted size; 0 before there is one.
        swap_size: how many tokens the next swap tries.
    """

    step: int
    num_swaps: int
    is_chosen: NDArray[np.bool_]
    yields: NDArray[np.float64]
    num_tokens: int
    swap_size: int


class StateFolder:
    """A folder for one run; files of another run, and damaged ones, count as absent.

    Args:
        path: made when something is written.
        fingerprint: of everything that decides the result.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self._fingerprint = path, fingerprint

    def save_tokens(self, counts: Mapping[bytes, int]) -> None:
        """Keep the tokens that the search chooses from, and how often each occurs."""
        header = {"lengths": [len(token) for token in counts], "counts": [*counts.values()]}
        self._write(_TOKENS_FILE, header, b"".join(counts))

    def load_tokens(self) -> dict[bytes, int] | None:
        """Return what was kept of the tokens, if it was."""
        if (found := self._read(_TOKENS_FILE)) is None:
            return None
        (header, data), counts, start = found, dict[bytes, int](), 0
        for length, count in zip(header["lengths"], header["counts"], strict=True):
            counts[data[start : start + length]] = count
            start += length
        return counts

    def save_search(self, state: SearchState) -> None:
        """Keep where the search is."""
        header = {name: getattr(state, name) for name in ("step", "num_swaps", "num_tokens", "swap_size")}
        self._write(_SEARCH_FILE, header, np.packbits(state.is_chosen).tobytes() + state.yields.tobytes())

    def load_search(self, num_candidates: int) -> SearchState | None:
        """Return where the search was, if that was kept."""
        if (found := self._read(_SEARCH_FILE)) is None:
            return None
        header, data = found
        num_packed = -(-num_candidates // 8)
        is_chosen = np.unpackbits(np.frombuffer(data[:num_packed], np.uint8), count=num_candidates).astype(np.bool_)
        return SearchState(is_chosen=is_chosen, yields=np.frombuffer(data[num_packed:], np.float64).copy(), **header)

    def remove(self) -> None:
        """Delete the files, and the folder if it holds nothing else."""
        for name in (_TOKENS_FILE, _SEARCH_FILE, LOCK_NAME):
            (self.path / name).unlink(missing_ok=True)
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()

    def _write(self, name: str, header: dict[str, Any], data: bytes) -> None:
        body = json.dumps({**header, "fingerprint": self._fingerprint}).encode() + b"\n" + data
        write_file(self.path / name, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def _read(self, name: str) -> tuple[dict[str, Any], bytes] | None:
        try:
            digest, _, body = (self.path / name).read_bytes().partition(b"\n")
        except OSError:
            return None
        if digest != hashlib.sha256(body).hexdigest().encode():
            return None
        line, _, data = body.partition(b"\n")
        header = json.loads(line)
        return (header, data) if header.pop("fingerprint") == self._fingerprint else None
