"""Names of files that other files give: they may not lead out of the folder they stand in."""

from __future__ import annotations

from pathlib import PureWindowsPath


def leads_out(name: str) -> bool:
    """Whether a name, taken as a path from a folder, is absolute, climbs above it or can be no name, on any system."""
    path = PureWindowsPath(name)  # which sees both kinds of slashes, and drives
    return not path.parts or bool(path.anchor) or ".." in path.parts or _cannot_be_a_name(name)


def _cannot_be_a_name(name: str) -> bool:
    return "\0" in name or any("\ud800" <= character <= "\udfff" for character in name)
