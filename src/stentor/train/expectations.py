"""What teachers expect at every place of the training text, asked once before a run and read in every epoch.

A teacher's forward pass costs as much as the student's whole step, and is the same in every epoch. So a run may keep
what it says (`stentor.model.expected`) in files beside its checkpoints, each of a few thousand sequences, written whole
or not at all: a run that was stopped while asking goes on with the next file. They are removed when the run ends.
Several processes ask for a share of the files each, and read all of them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stentor.artifacts import open_file
from stentor.config import Recipe
from stentor.model.expected import drawn
from stentor.model.llama import document_ids
from stentor.model.loss import mean_logits
from stentor.shards.pack import PackedSequences
from stentor.train.distributed import ALONE, World
from stentor.train.teacher import Teacher

FOLDER = "expectations"
SEQUENCES_PER_FILE = 2048
_TOKENS_AT_ONCE = 16_384
"""Whose whole distributions are in memory together."""


class Expectations:
    """The files of one run, each int16 [sequences, T, 2 * kept].

    Args:
        run_dir: of the run.
        recipe: of the run.
        teacher: whom to ask.
        sequences: of the training text.
        data_sha256: of its tokens.
    """

    def __init__(
        self, run_dir: Path, recipe: Recipe, teacher: Teacher, sequences: PackedSequences, *, data_sha256: str
    ) -> None:
        self._recipe, self._teacher, self._sequences = recipe, teacher, sequences
        train = recipe.train
        self._shape = (recipe.model.max_position_embeddings, 2 * train.expectations_kept)
        asked = f"{teacher.sha256} {data_sha256} {self._shape} {train.mask_across_documents} {train.seed}"
        self._folder = run_dir / FOLDER / hashlib.sha256(asked.encode()).hexdigest()[:16]
        self._files: list[NDArray[np.int16]] = []

    @property
    def num_files(self) -> int:
        """How many files hold all sequences."""
        return -(-len(self._sequences) // SEQUENCES_PER_FILE)

    def ask(self, *, eos_token_id: int, world: World = ALONE) -> Iterator[int]:
        """Ask for what is not there yet; yields how many files there are after each.

        Args:
            eos_token_id: ends a document, where attention is to stay within documents.
            world: the processes that share the work; all have their part when they have exhausted the iterator.
        """
        separator = eos_token_id if self._recipe.train.mask_across_documents else None
        for number in range(world.rank, self.num_files, world.size):
            if not self._is_there(number):
                self._write(number, separator)
            yield min(number + world.size - world.rank, self.num_files)
        world.barrier()
        self._files = [self._opened(number) for number in range(self.num_files)]

    def of(self, indices_B: NDArray[np.int64]) -> Tensor:
        """Return what is expected in sequences of these numbers, int16 [B, T, 2 * kept]."""
        rows_BTE = np.empty((len(indices_B), *self._shape), dtype=np.int16)
        for row_TE, index in zip(rows_BTE, indices_B.tolist(), strict=True):
            number, place = divmod(index, SEQUENCES_PER_FILE)
            row_TE[:] = self._files[number][place]
        return torch.from_numpy(rows_BTE)

    def remove(self) -> None:
        """Give the space back."""
        self._files = []
        shutil.rmtree(self._folder.parent, ignore_errors=True)

    def _write(self, number: int, separator: int | None) -> None:
        device = self._teacher.models[0].embedding_VD.device
        generator = torch.Generator(device).manual_seed(self._recipe.train.seed * self.num_files + number)
        first = number * SEQUENCES_PER_FILE
        indices_B = np.arange(first, first + self._file_shape(number)[0])
        with open_file(self._path(number)) as file:
            for some_B in np.split(indices_B, range(self._at_once, len(indices_B), self._at_once)):
                input_ids_BT, _ = self._sequences.batch(some_B)
                ids_BT = torch.from_numpy(input_ids_BT).to(device)
                documents_BT = None if separator is None else document_ids(ids_BT, separator)
                logits_NV = mean_logits(self._teacher.models, ids_BT, document_ids_BT=documents_BT)
                rows_NE = drawn(logits_NV, self._recipe.train.expectations_kept, generator)
                file.write(rows_NE.cpu().numpy().tobytes())

    @property
    def _at_once(self) -> int:
        return max(1, _TOKENS_AT_ONCE // self._shape[0])

    def _opened(self, number: int) -> NDArray[np.int16]:
        return np.memmap(self._path(number), dtype=np.int16, mode="r", shape=self._file_shape(number))

    def _file_shape(self, number: int) -> tuple[int, int, int]:
        num_sequences = min(SEQUENCES_PER_FILE, len(self._sequences) - number * SEQUENCES_PER_FILE)
        return num_sequences, *self._shape

    def _is_there(self, number: int) -> bool:
        """Whether an earlier process wrote a file that can be used: whole, and of tokens that the student has."""
        path = self._path(number)
        if not path.exists() or path.stat().st_size != np.prod(self._file_shape(number)) * 2:
            return False
        ids_BTK = self._opened(number)[..., : self._recipe.train.expectations_kept].view(np.uint16)
        return int(ids_BTK.max()) < self._recipe.model.vocab_size

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:05d}.bin"
