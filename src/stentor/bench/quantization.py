"""What each smaller form of a model costs and gives: bytes, bits per byte, speed here, largest change of a logit."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stentor.bench.quantized_forms import FORMS, Form, Workshop
from stentor.errors import StentorError, UserError
from stentor.evaluate.text import encode_documents
from stentor.export.parity import compare_logits
from stentor.model.measure import measure
from stentor.runtime.cores import usable_cores
from stentor.tokenizer import Tokenizer

SAMPLE_TOKENS = 8_192
"""Of the text, that are measured where no other number is asked for."""
LOGIT_TOKENS = 128
"""At most, whose logits are compared, over the whole vocabulary."""
_LONGEST_DOCUMENT = 4_000
"""Characters that are taken of each document, so that many are seen."""
_WINDOWS_AT_ONCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How a form did.

    Attributes:
        form: its name.
        measured_in: the program that makes its tokens.
        size_bytes: on disk: the .gguf file, or the weights file of a folder.
        bits_per_byte: of the text.
        added_bits_per_byte: to what the float32 model has.
        tokens_per_second: made one after the other on this machine's CPU; None where nothing runs it here.
        max_logit_difference: from the float32 model's, each position's mean removed.
    """

    form: str
    measured_in: str
    size_bytes: int
    bits_per_byte: float
    added_bits_per_byte: float
    tokens_per_second: float | None
    max_logit_difference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizations:
    """All forms that were measured, and why others were not.

    Attributes:
        text: the source.
        num_tokens: of it that were measured.
        num_bytes: the same in bytes.
        num_threads: that computed.
        rows: float32 first.
        not_measured: the reason by the form's name.
    """

    text: str
    num_tokens: int
    num_bytes: int
    num_threads: int
    rows: Sequence[Row]
    not_measured: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as `--json` prints them."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Sample:
    """A part of a text.

    Attributes:
        token_ids: of its documents, each followed by EOS.
        num_bytes: of its text.
        eos_token_id: of the tokenizer.
    """

    token_ids: NDArray[np.integer]
    num_bytes: int
    eos_token_id: int

    @property
    def beginning(self) -> list[int]:
        """The first tokens, whose logits are compared."""
        return [int(token_id) for token_id in self.token_ids[:LOGIT_TOKENS]]


def compare_forms(
    model: str | Path,
    text: str,
    *,
    calibrate: str | None = None,
    forms: Sequence[Form] = FORMS,
    num_tokens: int = SAMPLE_TOKENS,
    say: Callable[[str], None] = lambda _: None,
) -> Quantizations:
    """Make every form of a model that can be made and run here, and measure it beside float32.

    Bits per byte and logits are computed from the weights as they are stored: those of a .gguf file in float32 on our
    own engine, so that two such forms differ in their weights alone. How fast a token is made is measured in the
    program that the form is for. Nothing is kept.

    Args:
        model: a model folder, a run folder, a .gguf file or a Hub id.
        text: a source of text, of which a part is measured: the beginnings of its first documents.
        calibrate: a source of text to round some forms for; it must not be what is measured.
        forms: to measure; the first is what the others are compared with.
        num_tokens: of the text.
        say: is told what is being done.

    Raises:
        UserError: the model or a text cannot be read.
    """
    from stentor.text.sources import read_texts

    rows: list[Row] = []
    not_measured: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="stentor-forms-") as folder:
        workshop = Workshop(model, Path(folder), calibrate=calibrate, num_threads=max(1, int(usable_cores())))
        sample = sample_of(workshop.source.tokenizer, read_texts(text), num_tokens, origin=text)
        reference_PV: NDArray[np.float32] | None = None
        for form in forms:
            say(f"measuring {form.name}")
            try:
                _require(form)
                row, logits_PV = _measured(form, workshop, sample, rows[0] if rows else None, reference_PV)
            except Exception as error:  # whatever a foreign program raises is its last word, not a bug of ours
                if form is forms[0]:
                    raise
                not_measured[form.name] = _reason(error)
                continue
            rows.append(row)
            reference_PV = logits_PV if reference_PV is None else reference_PV
    return Quantizations(
        text=text,
        num_tokens=len(sample.token_ids),
        num_bytes=sample.num_bytes,
        num_threads=workshop.num_threads,
        rows=rows,
        not_measured=not_measured,
    )


def _measured(
    form: Form, workshop: Workshop, sample: Sample, first: Row | None, reference_PV: NDArray[np.float32] | None
) -> tuple[Row, NDArray[np.float32]]:
    """Return how a form did beside the first, and its logits [positions, vocabulary]."""
    opened = form.open(workshop)
    beginning = sample.beginning[: workshop.context_length]
    logits_PV = opened.network.extend(beginning, 0, all_scored=True).copy()
    found = measure(
        opened.network,
        sample.token_ids,
        num_bytes=sample.num_bytes,
        eos_token_id=sample.eos_token_id,
        batch_size=_WINDOWS_AT_ONCE,
    )
    seconds = opened.token_seconds()
    row = Row(
        form=form.name,
        measured_in=form.program,
        size_bytes=opened.size_bytes,
        bits_per_byte=found.bits_per_byte,
        added_bits_per_byte=found.bits_per_byte - first.bits_per_byte if first else 0.0,
        tokens_per_second=None if seconds is None else 1 / seconds,
        max_logit_difference=0.0
        if reference_PV is None
        else compare_logits(reference_PV, logits_PV).max_logit_difference,
    )
    return row, logits_PV


def _reason(error: Exception) -> str:
    if not isinstance(error, StentorError):
        return f"{type(error).__name__}: {error}"
    return f"{error.message}; {error.fix}" if error.fix else error.message


def _require(form: Form) -> None:
    missing = [package for package in form.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"needs the package {missing[0]!r}")


def sample_of(tokenizer: Tokenizer, texts: Iterable[str], num_tokens: int, *, origin: str) -> Sample:
    """Return the beginnings of the first documents, as many as have so many tokens.

    Args:
        tokenizer: the model's.
        texts: the documents.
        num_tokens: that are enough.
        origin: where they come from, for messages.

    Raises:
        UserError: there is no text.
    """
    pieces: list[NDArray[np.integer]] = []
    num_bytes = counted = 0
    for document in texts:
        if counted >= num_tokens:
            break
        encoded = encode_documents(tokenizer, [document[:_LONGEST_DOCUMENT]])
        if encoded.num_bytes:
            pieces.append(encoded.token_ids)
            num_bytes, counted = num_bytes + encoded.num_bytes, counted + len(encoded.token_ids)
    if not pieces:
        raise UserError(f"there is no text to compare on in {origin}", fix="name a source with some text")
    return Sample(np.concatenate(pieces), num_bytes, tokenizer.eos_token_id)
