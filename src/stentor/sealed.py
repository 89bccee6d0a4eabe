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

    The manifest is beside the file, or in the folder above, as of `onnx/` in an export or `merged/` in a fine-tuning.

    Args:
        path: the file.
        data: all of its bytes, as they were read.

    Raises:
        CorruptArtifactError: its checksum differs, or the manifest itself is damaged.
    """
    folder = _sealed_folder(path.absolute())
    if folder is None:
        return
    contents = data if isinstance(data, bytes) else data.data
    size_and_digest = read_manifest(folder).files.get(path.absolute().relative_to(folder).as_posix())
    if size_and_digest and size_and_digest[1] != hashlib.sha256(contents).hexdigest():
        where = "beside it" if folder == path.absolute().parent else f"in {folder}"
        raise CorruptArtifactError(
            f"{path} does not match its checksum",
            fix=f"make this artifact again; or, if you changed it on purpose, remove {MANIFEST_NAME} {where}",
        )


def _sealed_folder(path: Path) -> Path | None:
    """Return the folder whose manifest tells of a file: its own, or the one above."""
    if (path.parent / MANIFEST_NAME).is_file():
        return path.parent
    above = path.parent.parent / MANIFEST_NAME
    # Web pages and others have a file of that name too: near a model's folder, not in it, it means nothing here.
    is_ours = above.is_file() and b'"manifest_sha256"' in above.read_bytes()
    return above.parent if is_ours else None
