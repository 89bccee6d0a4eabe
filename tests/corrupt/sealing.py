"""Give a sealed folder a manifest that fits what a test changed, as somebody would who means to deceive."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from stentor.artifacts import MANIFEST_NAME


def sealed(table: dict[str, Any]) -> bytes:
    """Return a manifest whose own checksum fits what it says."""
    body = {key: value for key, value in table.items() if key != "manifest_sha256"}
    seal = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return json.dumps({**body, "manifest_sha256": seal}).encode()


def seal_anew(file: Path, **details: Any) -> None:
    """Let the manifest beside a file fit it, with other details where some are given."""
    path, data = file.parent / MANIFEST_NAME, file.read_bytes()
    table: dict[str, Any] = json.loads(path.read_bytes())
    if file != path:
        table["files"][file.name] = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    table["details"] |= details
    path.write_bytes(sealed(table))
