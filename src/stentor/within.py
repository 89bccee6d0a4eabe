"""Names of files that other files give: they may not lead out of the folder they stand in."""

from __future__ import annotations

from pathlib import PureWindowsPath


def leads_out(name: str) -> bool:
    """Whether a name, taken as a path from a folder, is absolute or climbs above it, on any system."""
    path = PureWindowsPath(name)  # which sees both kinds of slashes, and drives
    return not path.parts or bool(path.anchor) or ".." in path.parts or "\0" in name
