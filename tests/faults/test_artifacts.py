"""Crash or fill the disk at every system call of the writer: the old artifact or the new one, never half."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stentor import artifacts
from stentor.artifacts import read_manifest, staged_directory, verify_directory, write_file
from stentor.errors import UserError

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

CALLS = ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir", "open")
CRASHED = 137
MISBEHAVED = 99


class FaultyFile:
    """A file whose writes are counted; the fatal one writes half of its data first."""

    def __init__(self, file, strike):
        self.file, self.strike = file, strike

    def write(self, data):
        self.strike("write", before=lambda: (self.file.write(data[: len(data) // 2]), self.file.flush()))
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def install_faults(patch: pytest.MonkeyPatch, strike) -> None:
    """Route every call that changes the disk through `strike(name, before=...)`."""

    def counted(name, call):
        def wrapper(*args, **kwargs):
            strike(name)
            return call(*args, **kwargs)

        return wrapper

    for name in CALLS:
        patch.setattr(os, name, counted(name, getattr(os, name)))
    patch.setattr(artifacts, "_exchange", counted("exchange", artifacts._exchange))
    real_open = io.open

    def open_counted(file, mode="r", *args, **kwargs):
        strike("open")
        opened = real_open(file, mode, *args, **kwargs)
        return FaultyFile(opened, strike) if set(mode) & set("wa+") else opened

    patch.setattr(io, "open", open_counted)


def dies_at(fatal_call: int, action: Callable[[], None]) -> bool:
    """Run `action` in a child that dies at its `fatal_call`-th system call; return whether it got that far."""
    pid = os.fork()
    if pid:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, CRASHED), f"the child ended with {code} at call {fatal_call}"
        return code == CRASHED
    try:
        count = 0

        def strike(name, before=lambda: None):
            nonlocal count
            count += 1
            if count == fatal_call:
                before()
                os._exit(CRASHED)

        install_faults(pytest.MonkeyPatch(), strike)
        action()
        os._exit(0)
    finally:
        os._exit(MISBEHAVED)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def make_folder(path: Path, content: str, *, replace: bool = False) -> None:
    with staged_directory(path, kind="thing", replace=replace) as staging:
        staging.write("a.txt", content)
        staging.write("deep/er/b.bin", content.encode() * 1000)
        with staging.open("deep/c.bin") as file:
            file.write(b"one")
            file.write(content.encode())
        staging.details["content"] = content


def content_of(path: Path) -> str | None:
    """Return what a reader finds in a folder, having verified all of it; None where there is nothing."""
    if not path.exists():
        return None
    content = verify_directory(path, kind="thing").details["content"]
    assert (path / "a.txt").read_text() == content
    assert (path / "deep/er/b.bin").read_bytes() == content.encode() * 1000
    assert (path / "deep/c.bin").read_bytes() == b"one" + content.encode()
    return content


@pytest.fixture(params=["exchange", "two renames"])
def swap(request, monkeypatch):
    """Replace folders by one exchange, and by two renames as on systems that have none."""
    if request.param == "two renames":
        monkeypatch.setattr(artifacts, "_exchange", lambda first, second: False)
    return request.param


@needs_fork
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("old", [None, "old"])
def test_file_is_old_or_new_wherever_the_machine_dies(tmp_path, old):
    fatal_call = 0
    crashed = True
    while crashed:
        fatal_call += 1
        path = tmp_path / str(fatal_call) / "note.txt"
        if old:
            write_file(path, old)
        crashed = dies_at(fatal_call, lambda path=path: write_file(path, "new and longer"))
        found = path.read_text() if path.exists() else None
        assert found in (old, "new and longer")
        assert crashed or found == "new and longer"
        write_file(path, "again")
        assert path.read_text() == "again"
        assert names_in(path.parent) == {"note.txt"}
    assert fatal_call > 5


@pytest.mark.slow
@needs_fork
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("old", [None, "old"])
def test_folder_is_old_or_new_wherever_the_machine_dies(tmp_path, old, swap):
    fatal_call = 0
    crashed = True
    while crashed:
        fatal_call += 1
        path = tmp_path / str(fatal_call) / "thing"
        if old:
            make_folder(path, old)
        crashed = dies_at(fatal_call, lambda path=path: make_folder(path, "new", replace=True))
        if old and not path.exists():
            assert swap == "two renames"
            with pytest.raises(UserError, match=r"rename .*\.thing\.replaced back"):
                read_manifest(path)
            assert content_of(path.with_name(".thing.replaced")) == old
        else:
            assert content_of(path) in (old, "new")
        make_folder(path, "again", replace=True)
        assert content_of(path) == "again"
        assert names_in(path.parent) == {"thing"}
    assert fatal_call > 15


@needs_fork
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_interrupted_replacement_is_undone_before_a_refusal(tmp_path):
    path = tmp_path / "thing"
    make_folder(path, "old")
    path.rename(tmp_path / ".thing.replaced")
    with pytest.raises(UserError, match="already exists"):
        make_folder(path, "new")
    assert content_of(path) == "old"
    assert names_in(tmp_path) == {"thing"}


def fill_disk(patch: pytest.MonkeyPatch, from_call: int) -> list[str]:
    """Let every call from the `from_call`-th on fail as on a full disk; removing still works."""
    calls: list[str] = []

    def strike(name, before=lambda: None):
        calls.append(name)
        if len(calls) >= from_call and name not in ("unlink", "rmdir", "open"):
            before()
            raise OSError(errno.ENOSPC, "No space left on device")

    install_faults(patch, strike)
    return calls


def full_disk_leaves(folder: Path, from_call: int, action: Callable[[], None]) -> bool:
    """Run `action` with a disk that fills at a call; check the error; return whether it failed."""
    with pytest.MonkeyPatch.context() as patch:
        calls = fill_disk(patch, from_call)
        message = None
        try:
            action()
        except UserError as error:
            message = str(error)
    assert message is None or ("no space left" in message and "fix:" in message)
    assert not folder.exists() or not [name for name in names_in(folder) if "partial" in name]
    return message is not None or len(calls) >= from_call


@pytest.mark.parametrize("old", [None, "old"])
def test_full_disk_leaves_files_whole(tmp_path, old):
    from_call, struck = 0, True
    while struck:
        from_call += 1
        path = tmp_path / str(from_call) / "note.txt"
        if old:
            write_file(path, old)
        struck = full_disk_leaves(path.parent, from_call, lambda path=path: write_file(path, "new"))
        assert (path.read_text() if path.exists() else None) in (old, "new")
        write_file(path, "again")
        assert path.read_text() == "again"
    assert from_call > 5


@pytest.mark.parametrize("old", [None, "old"])
def test_full_disk_leaves_folders_whole(tmp_path, old, swap):
    from_call, struck = 0, True
    while struck:
        from_call += 1
        path = tmp_path / str(from_call) / "thing"
        if old:
            make_folder(path, old)
        struck = full_disk_leaves(path.parent, from_call, lambda path=path: make_folder(path, "new", replace=True))
        if old and swap == "two renames" and not path.exists():  # even renaming back was refused
            path.with_name(".thing.replaced").rename(path)
        assert content_of(path) in (old, "new")
        make_folder(path, "again", replace=True)
        assert content_of(path) == "again"
        assert names_in(path.parent) == {"thing"}
    assert from_call > 15


def calls_of(action: Callable[[], None]) -> list[str]:
    """Return the system calls of an action, in order."""
    calls: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        install_faults(patch, lambda name, before=None: calls.append(name))
        action()
    return calls


def test_data_is_on_the_disk_before_its_name_is_and_then_the_name(tmp_path):
    calls = calls_of(lambda: write_file(tmp_path / "note.txt", "new"))
    assert calls[-6:] == ["open", "write", "fsync", "replace", "open", "fsync"]


@pytest.mark.parametrize(("replace", "naming"), [(False, "rename"), (True, "exchange")])
def test_folder_is_on_the_disk_before_its_name_is_and_then_the_name(tmp_path, replace, naming):
    if replace:
        make_folder(tmp_path / "thing", "old")
    calls = calls_of(lambda: make_folder(tmp_path / "thing", "new", replace=replace))
    named = calls.index(naming)
    last_write = max(index for index, name in enumerate(calls) if name == "write")
    files_and_folders = 4 + 3  # three files and the manifest; the folder itself, deep and deep/er
    assert last_write < named
    assert calls[:named].count("fsync") == files_and_folders
    assert calls[last_write:named].count("fsync") == 1 + 3, "the manifest, written last, and the folders"
    assert calls[named + 1 : named + 3] == ["open", "fsync"], "the folder that holds the name"
