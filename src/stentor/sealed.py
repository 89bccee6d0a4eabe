"""Files of sealed folders, checked as they are read: each must be the one whose SHA-256 the manifest holds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from stentor.artifacts import MANIFEST_NAME, read_manifest
from stentor.errors import CorruptArtifactError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def require_sealed(path: Path, data: bytes | NDArray[np.uint8]) -> None:
    """Refuse a file that was altered since its folder was sealed; a folder without a manifest is never refused.

    Args:
        path: the file.
        data: all of its bytes, as they were read.

    Raises:
        CorruptArtifactError: its checksum differs, or the manifest itself is damaged.
    """
    if not (path.parent / MANIFEST_NAME).is_file():
        return
    contents = data if isinstance(data, bytes) else data.data
    size_and_digest = read_manifest(path.parent).files.get(path.name)
    if size_and_digest and size_and_digest[1] != hashlib.sha256(contents).hexdigest():
        raise CorruptArtifactError(
            f"{path} does not match its checksum",
            fix=f"make this artifact again; or, if you changed it on purpose, remove {MANIFEST_NAME} beside it",
        )
