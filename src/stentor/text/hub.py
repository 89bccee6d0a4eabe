"""`hf:NAME[:CONFIG][:SPLIT]` -> raw documents, streamed from the Hugging Face Hub; nothing is kept on the disk."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from stentor.errors import UserError, missing_extra
from stentor.text.document import Document, Tally
from stentor.text.readers import document_of

# `datasets` would open a folder of that name; a source that begins with hf: is a dataset of the Hub.
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_REACH_TIMEOUT_S = 20
_COMMON_SPLITS = ("train", "validation", "test")
_EXAMPLE = "hf:HuggingFaceFW/fineweb-edu:sample-10BT:train"


@dataclass(frozen=True, slots=True)
class HubName:
    """A dataset of the Hub: its name, its configuration (empty: the default one) and its split."""

    name: str
    config: str = ""
    split: str = "train"

    @classmethod
    def parse(cls, spec: str) -> HubName:
        """Read `hf:NAME[:CONFIG][:SPLIT]`; a lone second part that is a usual split's name is the split.

        Raises:
            UserError: the name is empty or there are too many parts.
        """
        name, *rest = spec.removeprefix("hf:").split(":")
        if not _NAME.fullmatch(name) or len(rest) > 2:
            raise UserError(f"{spec!r} is not hf:NAME[:CONFIG][:SPLIT]", fix=f"write it like {_EXAMPLE}")
        if len(rest) == 1 and rest[0] in _COMMON_SPLITS:
            rest = ["", rest[0]]
        config, split = [*rest, "", ""][:2]
        return cls(name, config, split or "train")

    def __str__(self) -> str:
        if not self.config and self.split in _COMMON_SPLITS:
            return f"hf:{self.name}:{self.split}"
        return f"hf:{self.name}:{self.config}:{self.split}"


def read_hub(dataset: HubName, tally: Tally) -> Iterator[Document]:
    """Stream the documents of a dataset in its own order; the text is its column `text`.

    Raises:
        UserError: no such dataset, configuration or split, no column `text`, or the Hub cannot be reached.
        MissingDependencyError: `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError:
        raise missing_extra("datasets", "hf", needed_for=f"streaming {dataset}") from None
    with _explained(dataset):
        _require_on_hub(dataset)
        stream = datasets.load_dataset(dataset.name, dataset.config or None, split=dataset.split, streaming=True)
        for number, record in enumerate(_text_records(stream, dataset)):
            document = document_of(record, f"{dataset}:{number}", str(dataset))
            if document is None:
                tally.dropped_bytes("text_not_a_string", 0)
            else:
                yield document


def _require_on_hub(dataset: HubName) -> None:
    """Ask the Hub once whether the dataset is there: `datasets` asks for half a minute before it gives up."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    if Path(dataset.name).exists():
        raise UserError(f"{dataset} names a dataset of the Hub, but {dataset.name} is here", fix="read it without hf:")
    try:
        HfApi().dataset_info(dataset.name, timeout=_REACH_TIMEOUT_S)
    except RepositoryNotFoundError:
        raise UserError(
            f"there is no dataset {dataset.name} on the Hugging Face Hub, or it is not yours to see",
            fix="check its name; for a private one, log in: hf auth login",
        ) from None


def _text_records(stream: Any, dataset: HubName) -> Iterator[dict[str, Any]]:
    """Yield the records; where columns are known beforehand only those we need are decoded (some hold embeddings)."""
    columns = stream.column_names
    if columns is not None:
        _require_text(columns, dataset)
        yield from stream.select_columns([column for column in ("text", "id") if column in columns])
        return
    records = iter(stream)
    first = next(records, None)
    if first is None:
        return
    _require_text(first, dataset)
    for record in chain([first], records):
        yield {key: record.get(key) for key in ("text", "id")}


def _require_text(columns: Any, dataset: HubName) -> None:
    if "text" not in columns:
        raise UserError(
            f"{dataset} has no column 'text' (columns: {', '.join(columns)})",
            fix="choose a dataset, or a configuration of it, whose texts are in a column 'text'",
        )


@contextlib.contextmanager
def _explained(dataset: HubName) -> Iterator[None]:
    """Turn what `datasets` raises into one sentence."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub import errors as hub_errors

    # Of httpx (no OSError) or of requests, as the installed huggingface_hub has it.
    http_error: type[Exception] = getattr(hub_errors, "HTTPError", OSError)

    try:
        yield
    except (DatasetsError, ValueError) as error:  # ValueError: an unknown configuration or split; it lists those known
        raise UserError(f"{dataset} cannot be opened: {_first_line(error)}", fix="check its name on the Hub") from None
    except (OSError, http_error) as error:
        raise UserError(
            f"{dataset} cannot be streamed from the Hugging Face Hub ({_first_line(error)})",
            fix="check the network, or use a file you have, or builtin:docs",
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
