"""The only writer: every file Stentor keeps is written here, whole or not at all.

A reader never sees half an artifact. Single files are written beside their destination, flushed to the disk
and renamed; folders are filled in a hidden sibling, sealed with a manifest of sizes and SHA-256 sums, and
renamed. A crash at any system call leaves the old artifact or the new one. (One exception: replacing a folder
where the system cannot exchange two names takes two renames; a crash between them leaves the old folder under
a hidden name, and the next attempt puts it back.)
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from stentor.errors import CorruptArtifactError, UserError, refusal_of
from stentor.json_text import parse_json
from stentor.within import leads_out

MANIFEST_NAME = "manifest.json"
MANIFEST_FORMAT = 1
LOCK_NAME = ".lock"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_LOCKED_OFFSET = 1 << 30
"""Windows locks bytes, not files, and nobody else may read them: lock one far behind the owner's name."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a sealed folder holds: its kind, how it was made, and every file's size and SHA-256."""

    kind: str
    details: dict[str, Any]
    files: dict[str, tuple[int, str]]


@dataclass(slots=True)
class Staging:
    """A folder being filled; nothing in it is visible at the destination until it is sealed."""

    path: Path
    details: dict[str, Any] = field(default_factory=dict)

    def write(self, name: str, data: bytes | str) -> None:
        """Write one whole file under the staged folder."""
        with self.open(name) as file:
            file.write(data.encode() if isinstance(data, str) else data)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open one file under the staged folder for streamed binary writing."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            yield file


def write_file(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data` atomically and durably.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    with open_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for streamed binary writing; it appears, whole, when the block ends without an error."""
    partial = _partial_name(path)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _fsync_directory(path.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def staged_directory(destination: Path, *, kind: str, replace: bool = False) -> Iterator[Staging]:
    """Fill a folder out of sight and let it appear at `destination`, sealed, when the block ends.

    Args:
        destination: the folder to make.
        kind: what it holds (`corpus`, `shards`, ...), written into its manifest.
        replace: an existing folder is replaced; otherwise it is refused.

    Raises:
        UserError: the destination exists, the disk is full or the place cannot be written.
    """
    partial = _partial_name(destination)
    with _explained(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        _sweep(destination)
        refuse_existing(destination, replace=replace, kind=kind)
        partial.mkdir()
        try:
            staging = Staging(partial)
            yield staging
            _seal(staging, kind)
            refuse_existing(destination, replace=replace, kind=kind)
            _swap_in(partial, destination)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def refuse_existing(path: Path, *, replace: bool = False, kind: str = "") -> None:
    """Refuse to overwrite `path` unless the user asked for it.

    A folder that is not ours, or holds another kind of artifact (a checkpoint where a model is to stand), is never
    replaced.
    """
    if not os.path.lexists(path):
        return
    if not replace:
        raise UserError(f"the output {path} already exists", fix="choose another name, or pass --force to replace it")
    if path.is_dir() and not (path / MANIFEST_NAME).is_file() and any(path.iterdir()):
        raise UserError(f"{path} is a folder that Stentor did not make; it is kept", fix="choose another name")
    with contextlib.suppress(CorruptArtifactError):  # a damaged one may be made again
        there = read_manifest(path).kind if (path / MANIFEST_NAME).is_file() else kind
        if kind and there != kind:
            raise UserError(
                f"{path} is a {there!r} folder, not a {kind!r} folder; it is kept", fix="choose another name"
            )


def read_manifest(directory: Path, *, kind: str | None = None) -> Manifest:
    """Read the manifest of a sealed folder.

    Raises:
        UserError: there is no such folder, or it holds another kind of artifact.
        CorruptArtifactError: the manifest is damaged or of a newer format.
    """
    path = directory / MANIFEST_NAME
    try:
        raw = parse_json(_read_manifest_bytes(directory))
        if (version := raw["format"]) != MANIFEST_FORMAT:
            raise CorruptArtifactError(
                f"{path} has format {version!r}, this Stentor reads {MANIFEST_FORMAT}",
                fix="upgrade Stentor: pip install -U stentor",
            )
        seal = raw.pop("manifest_sha256")
        files = {name: (int(entry["size_bytes"]), str(entry["sha256"])) for name, entry in raw["files"].items()}
        manifest = Manifest(str(raw["kind"]), dict(raw["details"]), files)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise CorruptArtifactError(f"{path} is damaged", fix="make this artifact again") from None
    if seal != _sha256_of_json(raw):
        raise CorruptArtifactError(f"{path} was altered after it was written", fix="make this artifact again")
    if (outside := next(filter(leads_out, files), None)) is not None:
        raise CorruptArtifactError(f"{path} names {outside!r}, outside its folder", fix="make this artifact again")
    if kind is not None and manifest.kind != kind:
        raise UserError(
            f"{directory} is a {manifest.kind!r} folder, not a {kind!r} folder", fix=f"pass a {kind!r} folder"
        )
    return manifest


def _read_manifest_bytes(directory: Path) -> bytes:
    with _explained(directory):
        try:
            return (directory / MANIFEST_NAME).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            fix = "check the path, or make it again"
            if not directory.exists() and (old := _replaced_name(directory)).exists():
                fix = f"its replacement was interrupted: make it again, or rename {old} back"
            message = f"{directory} is not a folder that Stentor made (no {MANIFEST_NAME})"
            raise UserError(message, fix=fix) from None


def verify_directory(directory: Path, *, kind: str | None = None) -> Manifest:
    """Check every file of a sealed folder against its manifest and return the manifest.

    Raises:
        CorruptArtifactError: a file is missing, has another size or another SHA-256; it is named.
    """
    manifest, again = read_manifest(directory, kind=kind), "make this artifact again"
    for name, (size_bytes, digest) in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise CorruptArtifactError(f"{path} is missing", fix=again)
        if (found := path.stat().st_size) != size_bytes:
            raise CorruptArtifactError(f"{path} has {found} bytes, its manifest says {size_bytes}", fix=again)
        with _explained(path):
            found_digest = sha256_of_file(path)
        if found_digest != digest:
            raise CorruptArtifactError(f"{path} does not match its checksum", fix=again)
    return manifest


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_line(path: Path, line: str) -> None:
    """Append one line to a log; a crash can cut the last line short, never an earlier or a later one."""
    with _explained(path), path.open("ab+") as file:
        was_cut_short = False
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            was_cut_short = file.read(1) != b"\n"
        file.write(b"\n" * was_cut_short + line.encode() + b"\n")


def require_free_space(path: Path, num_bytes: int, *, purpose: str) -> None:
    """Refuse to start work whose output of `num_bytes` cannot fit on the disk that holds `path`."""
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    free_bytes = shutil.disk_usage(existing).free
    if num_bytes > free_bytes:
        raise UserError(
            f"{purpose} needs about {num_bytes / 1e9:.2f} GB in {existing}, where {free_bytes / 1e9:.2f} GB are free",
            fix="free some space or choose a folder on another disk",
        )


@contextlib.contextmanager
def locked_directory(directory: Path) -> Iterator[None]:
    """Hold a folder for this process; the lock ends with the process, however it ends.

    Where the file system cannot lock at all (some network drives) the folder is used without a lock.

    Raises:
        UserError: another process holds it; its process id and host are named.
    """
    with _explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
        handle = (directory / LOCK_NAME).open("a+b", buffering=0)
    with handle:
        with _explained(directory):
            if not _try_lock(handle):
                handle.seek(0)
                owner = handle.read(200).decode(errors="replace").strip()
                raise UserError(
                    f"{directory} is in use by another process ({owner})",
                    fix="wait until it ends, stop it, or use another folder",
                )
            handle.truncate(0)
            handle.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def _try_lock(handle: FileIO) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        handle.seek(_LOCKED_OFFSET)
        try:
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    with contextlib.suppress(OSError):  # other refusals mean that this file system has no locks
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _partial_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _replaced_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


def _sweep(path: Path) -> None:
    """Clear what a crashed process left beside `path`, and undo a replacement it did not finish."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        owner = leftover.name.split(".")[-2]
        if owner.isdigit() and int(owner) != os.getpid() and _is_running(int(owner)):
            continue
        _remove(leftover)
    replaced = _replaced_name(path)
    if os.path.lexists(replaced):
        if os.path.lexists(path):
            _remove(replaced)
        else:
            replaced.rename(path)


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # signal 0 is Ctrl-C there
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _seal(staging: Staging, kind: str) -> None:
    """Flush every file and folder to the disk; the manifest is written last."""
    entries: dict[str, Any] = {}
    for path in sorted(p for p in staging.path.rglob("*") if p.is_file()):
        _fsync(path)
        name = path.relative_to(staging.path).as_posix()
        entries[name] = {"size_bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    if MANIFEST_NAME in entries:
        raise ValueError(f"{MANIFEST_NAME} is written by the seal")
    body = {"format": MANIFEST_FORMAT, "kind": kind, "details": staging.details, "files": entries}
    body = json.loads(json.dumps(body))  # as a reader will see it: keys are strings, tuples are lists
    staging.write(MANIFEST_NAME, json.dumps({**body, "manifest_sha256": _sha256_of_json(body)}, indent=1) + "\n")
    _fsync(staging.path / MANIFEST_NAME)
    for folder in (staging.path, *(p for p in staging.path.rglob("*") if p.is_dir())):
        _fsync_directory(folder)


def _sha256_of_json(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _swap_in(partial: Path, destination: Path) -> None:
    """Give the sealed folder its name; what had that name before is removed afterwards."""
    if not os.path.lexists(destination):
        partial.rename(destination)
    elif not _exchange(partial, destination):
        replaced = _replaced_name(destination)
        destination.rename(replaced)
        try:
            partial.rename(destination)
        except BaseException:
            replaced.rename(destination)
            raise
    _fsync_directory(destination.parent)
    for old in (partial, _replaced_name(destination)):
        _remove(old)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one system call; return False where the system or the file system cannot."""
    if os.name == "nt":
        return False
    system = ctypes.CDLL(None)
    names = os.fsencode(first), os.fsencode(second)
    if hasattr(system, "renameat2"):  # Linux
        return system.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0
    if hasattr(system, "renamex_np"):  # macOS, whose RENAME_SWAP is also 2
        return system.renamex_np(*names, _RENAME_EXCHANGE) == 0
    return False


def _fsync(path: Path) -> None:
    with path.open("rb+" if os.name == "nt" else "rb") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def _fsync_directory(directory: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there; NTFS journals the rename itself
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one sentence."""
    try:
        yield
    except OSError as error:
        if refusal := refusal_of(error, path):
            raise refusal from error
        raise
