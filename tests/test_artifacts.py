"""The one writer: whole or not at all, at whichever system call the machine dies or the disk fills."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sealing import sealed as with_seal

from stentor import artifacts
from stentor.artifacts import (
    MANIFEST_NAME,
    append_line,
    locked_directory,
    open_file,
    read_manifest,
    refuse_existing,
    require_free_space,
    sha256_of_file,
    staged_directory,
    verify_directory,
    write_file,
)
from stentor.errors import CorruptArtifactError, UserError

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
needs_no_root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() == 0, reason="root may write anywhere")


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


# --- files --------------------------------------------------------------------------------------------------


def test_write_file_takes_text_and_bytes_and_makes_parents(tmp_path):
    write_file(tmp_path / "a/b/text", "h\u00e9")
    write_file(tmp_path / "a/b/bytes", b"\x00\xff")
    assert (tmp_path / "a/b/text").read_bytes() == "h\u00e9".encode()
    assert (tmp_path / "a/b/bytes").read_bytes() == b"\x00\xff"


@pytest.mark.parametrize("trouble", [RuntimeError("stop"), KeyboardInterrupt()])
def test_block_that_fails_keeps_the_old_file(tmp_path, trouble):
    path = tmp_path / "file"
    write_file(path, "old")
    with pytest.raises(type(trouble)), open_file(path) as file:  # noqa: PT012
        file.write(b"half of the new")
        raise trouble
    assert path.read_text() == "old"
    assert names_in(tmp_path) == {"file"}


def test_reader_sees_nothing_before_the_block_ends(tmp_path):
    with open_file(tmp_path / "file") as file:
        file.write(b"x" * 100_000)
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").stat().st_size == 100_000


@pytest.mark.parametrize("name", ["run[1]", "a*b", "q?", "with space", ".hidden", "a.b.c"])
def test_leftovers_of_dead_processes_are_swept_whatever_the_name(tmp_path, name):
    dead = 2**22 + 12345  # above the largest process id Linux hands out
    (tmp_path / f".{name}.{dead}.partial").write_text("left behind")
    (tmp_path / f".{name}.{10**30}.partial").write_text("no process id at all")
    (tmp_path / f".{name}x.{dead}.partial").write_text("of another artifact")
    write_file(tmp_path / name, "new")
    assert names_in(tmp_path) == {name, f".{name}x.{dead}.partial"}


def test_partial_of_a_living_process_is_left_alone(tmp_path):
    theirs = tmp_path / f".file.{os.getppid()}.partial"
    theirs.write_text("being written")
    write_file(tmp_path / "file", "mine")
    assert theirs.read_text() == "being written"


def test_threads_writing_different_files_of_a_folder_do_not_meet(tmp_path):
    def write_many(name):
        for number in range(20):
            write_file(tmp_path / name, f"{name} {number}")

    threads = [threading.Thread(target=write_many, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.read_text() for path in tmp_path.iterdir()} == {f"{name} 19" for name in "abcd"}


def test_destination_that_is_a_folder_or_under_a_file_is_one_sentence(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "folder", tmp_path / "file/below", tmp_path / ("n" * 300)):
        with pytest.raises(UserError, match="cannot be used") as caught:
            write_file(path, "x")
        assert caught.value.fix
    assert names_in(tmp_path) == {"folder", "file"}


@needs_no_root
def test_forbidden_place_is_one_sentence(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(UserError, match="cannot be used"):
        write_file(tmp_path / "file", "x")
    tmp_path.chmod(stat.S_IRWXU)


def test_forbidden_place_as_root_too(tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    monkeypatch.setattr(os, "mkdir", refused)
    with pytest.raises(UserError, match=r"cannot be used \(Permission denied\)"):
        write_file(tmp_path / "new/file", "x")


def test_other_errors_of_the_block_pass_through(tmp_path):
    with pytest.raises(ConnectionResetError), staged_directory(tmp_path / "out", kind="thing"):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    assert not names_in(tmp_path)


# --- folders ------------------------------------------------------------------------------------------------


def test_sealed_folder_reads_back(tmp_path):
    make_folder(tmp_path / "thing", "hello")
    manifest = read_manifest(tmp_path / "thing", kind="thing")
    assert manifest == verify_directory(tmp_path / "thing")
    assert manifest.kind == "thing"
    assert manifest.details == {"content": "hello"}
    assert set(manifest.files) == {"a.txt", "deep/er/b.bin", "deep/c.bin"}
    assert manifest.files["a.txt"] == (5, sha256_of_file(tmp_path / "thing/a.txt"))
    assert manifest.files["a.txt"][1] == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def test_files_that_a_library_wrote_are_sealed_too(tmp_path):
    with staged_directory(tmp_path / "out", kind="thing") as staging:
        (staging.path / "sub").mkdir()
        (staging.path / "sub/read-only").write_bytes(b"data")
        (staging.path / "sub/read-only").chmod(0o444)
    assert set(verify_directory(tmp_path / "out").files) == {"sub/read-only"}


def test_details_read_back_as_json_has_them(tmp_path):
    details = {10: "ten", 9: "nine", "pair": (1, 2), "text": "\u00e9\U0001f600\ud800", "small": 1e-300, "none": None}
    with staged_directory(tmp_path / "out", kind="thing") as staging:
        staging.details.update(details)
    expected = {"10": "ten", "9": "nine", "pair": [1, 2], **{k: details[k] for k in ("text", "small", "none")}}
    assert read_manifest(tmp_path / "out").details == expected


def test_existing_output_is_refused_untouched(tmp_path):
    make_folder(tmp_path / "thing", "old")
    with pytest.raises(UserError, match="already exists") as caught:
        make_folder(tmp_path / "thing", "new")
    assert "--force" in caught.value.fix
    assert content_of(tmp_path / "thing") == "old"
    assert names_in(tmp_path) == {"thing"}


def test_output_that_appears_meanwhile_is_refused_too(tmp_path):
    make_folder(tmp_path / "other", "quick")
    with pytest.raises(UserError, match="already exists"), staged_directory(tmp_path / "thing", kind="thing"):
        (tmp_path / "other").rename(tmp_path / "thing")
    assert content_of(tmp_path / "thing") == "quick"
    assert names_in(tmp_path) == {"thing"}


def test_replacing_never_takes_a_folder_that_is_not_ours(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("three years of work")
    with pytest.raises(UserError, match="did not make"):
        make_folder(tmp_path / "home", "new", replace=True)
    assert (tmp_path / "home/thesis.txt").read_text() == "three years of work"


def test_replacing_never_takes_another_kind_of_artifact(tmp_path):
    with staged_directory(tmp_path / "thing", kind="checkpoint") as staging:
        staging.write("a.txt", "weeks of training")
    opening = staged_directory(tmp_path / "thing", kind="model", replace=True)
    with pytest.raises(UserError, match="is a 'checkpoint' folder, not a 'model' folder; it is kept"):
        opening.__enter__()
    assert (tmp_path / "thing/a.txt").read_text() == "weeks of training"
    (tmp_path / "thing/manifest.json").write_text("damaged")
    with staged_directory(tmp_path / "thing", kind="model", replace=True) as staging:
        staging.write("a.txt", "new")
    assert read_manifest(tmp_path / "thing").kind == "model"


@pytest.mark.parametrize("kind", ["empty folder", "file", "symlink", "dangling symlink"])
def test_replace_takes_what_else_stands_there(tmp_path, kind, swap):
    target = tmp_path / "target"
    out = tmp_path / "out"
    if kind == "empty folder":
        out.mkdir()
    elif kind == "file":
        out.write_text("x")
    else:
        out.symlink_to(target)
        if kind == "symlink":
            make_folder(target, "untouched")
    with pytest.raises(UserError, match="already exists"):
        refuse_existing(out)
    make_folder(out, "new", replace=True)
    assert content_of(out) == "new"
    assert not out.is_symlink()
    assert content_of(target) == ("untouched" if kind == "symlink" else None)


@pytest.mark.parametrize("trouble", [RuntimeError("stop"), KeyboardInterrupt()])
def test_block_that_fails_keeps_the_old_folder(tmp_path, trouble):
    make_folder(tmp_path / "thing", "old")
    path = tmp_path / "thing"
    with pytest.raises(type(trouble)), staged_directory(path, kind="thing", replace=True) as staging:  # noqa: PT012
        staging.write("a.txt", "new")
        raise trouble
    assert content_of(tmp_path / "thing") == "old"
    assert names_in(tmp_path) == {"thing"}


def test_failed_second_rename_puts_the_old_folder_back(tmp_path, monkeypatch):
    make_folder(tmp_path / "thing", "old")
    monkeypatch.setattr(artifacts, "_exchange", lambda first, second: False)
    real_rename = os.rename

    def rename(source, target):
        if str(source).endswith(".partial"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real_rename(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(UserError, match="no space left"):
        make_folder(tmp_path / "thing", "new", replace=True)
    assert content_of(tmp_path / "thing") == "old"
    assert names_in(tmp_path) == {"thing"}


def test_manifest_cannot_be_written_by_hand(tmp_path):
    with pytest.raises(ValueError, match="seal"), staged_directory(tmp_path / "out", kind="thing") as staging:
        staging.write(MANIFEST_NAME, "{}")
    assert not names_in(tmp_path)


# --- damage -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    path = tmp_path_factory.mktemp("sealed") / "thing"
    make_folder(path, "caf\u00e9")
    return path


@contextlib.contextmanager
def altered(path: Path, data: bytes):
    """Let a file hold other bytes for the length of a block."""
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


def test_manifest_cut_anywhere_is_corrupt(sealed):
    data = (sealed / MANIFEST_NAME).read_bytes()
    for length in range(len(data.rstrip())):
        with altered(sealed / MANIFEST_NAME, data[:length]), pytest.raises(CorruptArtifactError):
            read_manifest(sealed)


def test_no_flipped_bit_of_a_manifest_goes_unseen(sealed):
    data = (sealed / MANIFEST_NAME).read_bytes()
    original = read_manifest(sealed)
    for index in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[index // 8] ^= 1 << index % 8
        with altered(sealed / MANIFEST_NAME, bytes(flipped)):
            try:
                found = read_manifest(sealed)
            except CorruptArtifactError:
                continue
            assert found == original


@pytest.mark.parametrize("name", ["a.txt", "deep/er/b.bin", "deep/c.bin"])
def test_no_flipped_bit_of_a_file_goes_unseen(sealed, name):
    data = (sealed / name).read_bytes()
    for index in range(0, len(data) * 8, max(1, len(data) // 8)):
        flipped = bytearray(data)
        flipped[index // 8] ^= 1 << index % 8
        with (
            altered(sealed / name, bytes(flipped)),
            pytest.raises(CorruptArtifactError, match="does not match its checksum"),
        ):
            verify_directory(sealed)


@pytest.mark.parametrize("data", [b"", b"longer than it was by a good deal"])
def test_files_of_another_size_are_named_with_both_sizes(sealed, data):
    with (
        altered(sealed / "a.txt", data),
        pytest.raises(CorruptArtifactError, match=rf"a.txt has {len(data)} bytes.* 5"),
    ):
        verify_directory(sealed)


def test_missing_file_is_named(tmp_path):
    make_folder(tmp_path / "thing", "x")
    (tmp_path / "thing/deep/c.bin").unlink()
    with pytest.raises(CorruptArtifactError, match=r"c\.bin is missing"):
        verify_directory(tmp_path / "thing")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(["format", "files", "kind", "details"]),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["format", "files", "kind", "x"]), inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_other_manifest_is_corrupt(tmp_path, data):
    (tmp_path / MANIFEST_NAME).write_bytes(data)
    with pytest.raises(CorruptArtifactError):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"format": 1, "manifest_sha256": "", "kind": "", "details": {}, "files": {"a": {"size_bytes": Infinity}}}',
        b'{"format": 1, "manifest_sha256": "", "kind": "", "details": 5, "files": {}}',
        b"\xff\xfe\x00",
    ],
)
def test_hostile_manifests_are_corrupt(tmp_path, data):
    (tmp_path / MANIFEST_NAME).write_bytes(data)
    with pytest.raises(CorruptArtifactError, match="damaged"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../a.txt", "/etc/passwd", "a/../../b", "C:\\x", "..\\x", "", "."])
def test_a_manifest_that_leads_out_of_its_folder_is_refused(tmp_path, name):
    make_folder(tmp_path / "thing", "x")
    path = tmp_path / "thing" / MANIFEST_NAME
    table = json.loads(path.read_bytes())
    table["files"][name] = next(iter(table["files"].values()))
    path.write_bytes(with_seal(table))
    with pytest.raises(CorruptArtifactError, match="outside its folder"):
        read_manifest(tmp_path / "thing")


def test_newer_format_says_upgrade_even_when_its_fields_differ(tmp_path):
    (tmp_path / MANIFEST_NAME).write_text('{"format": 2, "entries": []}')
    with pytest.raises(CorruptArtifactError, match="format 2") as caught:
        read_manifest(tmp_path)
    assert "pip install -U stentor" in caught.value.fix


def test_altered_value_breaks_the_seal(tmp_path):
    make_folder(tmp_path / "thing", "x")
    path = tmp_path / "thing" / MANIFEST_NAME
    path.write_text(path.read_text().replace('"thing"', '"shards"'))
    with pytest.raises(CorruptArtifactError, match="altered"):
        read_manifest(tmp_path / "thing", kind="shards")


def test_wrong_kind_names_both(sealed):
    with pytest.raises(UserError, match="is a 'thing' folder, not a 'shards' folder") as caught:
        read_manifest(sealed, kind="shards")
    assert not isinstance(caught.value, CorruptArtifactError)


def test_folders_that_are_not_ours(tmp_path, sealed):
    (tmp_path / "manifest-is-a-folder" / MANIFEST_NAME).mkdir(parents=True)
    for path in (tmp_path, tmp_path / "nowhere", sealed / "a.txt"):
        with pytest.raises(UserError, match="not a folder that Stentor made"):
            read_manifest(path)
    with pytest.raises(UserError, match="cannot be used"):
        read_manifest(tmp_path / "manifest-is-a-folder")


# --- logs, space, locks -------------------------------------------------------------------------------------


@given(lines=st.lists(st.text(st.characters(blacklist_characters="\n\r", blacklist_categories=["Cs"]))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
def test_appended_lines_read_back(tmp_path, lines):
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    for line in lines:
        append_line(path, line)
    assert (path.read_text(encoding="utf-8") if lines else "") == "".join(f"{line}\n" for line in lines)


def test_line_after_a_crash_does_not_stick_to_the_one_cut_short(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b'{"step": 1}\n{"step"')
    append_line(path, '{"step": 2}')
    append_line(path, '{"step": 3}')
    assert path.read_text() == '{"step": 1}\n{"step"\n{"step": 2}\n{"step": 3}\n'


def test_append_to_nowhere_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot be used"):
        append_line(tmp_path / "no/log", "x")


def test_free_space_is_checked_on_the_disk_of_the_nearest_folder(tmp_path):
    require_free_space(tmp_path / "not/yet/there", 1, purpose="the corpus")
    with pytest.raises(UserError, match=r"the corpus needs about 1000000\.00 GB in .* GB are free"):
        require_free_space(tmp_path / "not/yet/there", 10**15, purpose="the corpus")


@needs_fork
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_second_process_is_refused_until_the_first_ends(tmp_path):
    folder = tmp_path / "run"
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            with locked_directory(folder):
                os.write(writer, b"!")
                signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"!"
        with pytest.raises(UserError, match=f"process {pid} on {socket.gethostname()}"), locked_directory(folder):
            pass
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    for _ in range(2):
        with locked_directory(folder):
            assert (folder / artifacts.LOCK_NAME).read_text() == f"process {os.getpid()} on {socket.gethostname()}"


def test_lock_ends_with_its_block_even_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), locked_directory(tmp_path):
        raise RuntimeError
    with locked_directory(tmp_path), pytest.raises(UserError, match="in use"), locked_directory(tmp_path):
        pass


def test_file_systems_without_locks_are_used_without(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with locked_directory(tmp_path):
        pass
