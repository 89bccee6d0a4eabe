"""Weights that are spread over several files, and the index that says which tensor lies in which."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

from stentor.errors import UserError
from stentor.json_text import parse_json
from stentor.sealed import require_sealed
from stentor.within import leads_out

INDEX_NAME = "model.safetensors.index.json"
_AGAIN = "fetch or export the model again"


def read_index(path: Path) -> dict[str, str]:
    """Return the file of each tensor, by name.

    Args:
        path: a `model.safetensors.index.json`.

    Raises:
        UserError: it is damaged, or names a file that does not lie beside it.
        CorruptArtifactError: it was altered since its folder was sealed.
    """
    try:
        data = path.read_bytes()
        places = parse_json(data)["weight_map"]
        if not isinstance(places, dict):
            raise TypeError("its weight_map is no table")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", fix="check the path") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a whole index of weights ({error!r:.300})", fix=_AGAIN) from None
    for tensor, name in places.items():
        if not isinstance(name, str) or leads_out(name) or len(PureWindowsPath(name).parts) != 1:
            raise UserError(f"{path} has {tensor!r:.80} in {name!r:.80}, which is no file beside it", fix=_AGAIN)
    if not places:
        raise UserError(f"{path} names no tensor", fix=_AGAIN)
    require_sealed(path, data)
    return places


def files_of(path: Path) -> list[Path]:
    """Return the files that weights lie in: those that an index names, or else the one file itself."""
    if path.name != INDEX_NAME:
        return [path]
    return [path.with_name(name) for name in sorted(set(read_index(path).values()))]


def require_indexed(path: Path, found: dict[str, str]) -> None:
    """Refuse files whose tensors are not where their index has them.

    Args:
        path: the index, or the one file, for which nothing is asked.
        found: the file of each tensor, by name.

    Raises:
        UserError: a tensor is missing, or in another file; it is named.
    """
    expected = read_index(path) if path.name == INDEX_NAME else found
    for tensor in expected.keys() | found.keys():
        if expected.get(tensor) != found.get(tensor):
            places = f"has {tensor!r:.80} in {expected.get(tensor)}, it lies in {found.get(tensor)}"
            raise UserError(f"{path} {places}", fix=_AGAIN)
