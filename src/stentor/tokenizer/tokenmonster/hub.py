"""Published vocabularies by name, from the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path

from stentor.artifacts import sha256_of_file
from stentor.errors import CorruptArtifactError, UserError, missing_extra
from stentor.tokenizer.tokenmonster.published import KNOWN_SHA256

PREFIX = "tokenmonster:"
REPOSITORY = "alasdairforsythe/tokenmonster"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def fetch_vocab(name: str) -> Path:
    """Return the file of a published vocabulary, downloading it unless it is in the Hub's cache.

    Args:
        name: such as `english-8000-balanced-v1`.

    Raises:
        UserError: there is no such vocabulary, or the Hub cannot be reached.
        CorruptArtifactError: the file is not the one that was published.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} is no name of a published vocabulary", fix=_example())
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError:
        raise missing_extra("huggingface_hub", "hf", needed_for="fetching a vocabulary by name") from None
    try:
        path = Path(hf_hub_download(REPOSITORY, f"vocabs/{name}.vocab"))
    except (OSError, ValueError, EntryNotFoundError) as error:  # the library's own errors are among these
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise UserError(f"{REPOSITORY} has no vocabulary {name!r}", fix=_example()) from None
        raise UserError(
            f"the vocabulary {name!r} could not be fetched from {REPOSITORY} ({type(error).__name__})",
            fix="check the network, or pass the path of its .vocab file",
        ) from None
    if (known := KNOWN_SHA256.get(name)) is not None and (found := sha256_of_file(path)) != known:
        raise CorruptArtifactError(
            f"{path} is not the published {name}: its SHA-256 is {found[:12]}..., not {known[:12]}...",
            fix="delete it and run the same command again",
        )
    return path


def _example() -> str:
    return f"names look like {PREFIX}english-8000-balanced-v1; see https://huggingface.co/{REPOSITORY}"
