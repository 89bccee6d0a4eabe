"""Bytes of a file, plain or compressed, as a stream of bounded blocks."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import zstandard

from stentor.errors import UserError

COMPRESSIONS = (".gz", ".zst")
BLOCK_BYTES = 1 << 20
# A zstd block of 4 bytes can hold 128 KiB, so this much input gives at most 64 MiB at once.
_ZSTD_INPUT_BYTES = 2048
_ZSTD_MAX_WINDOW_BYTES = 1 << 31


def read_blocks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file in order, decompressed when its name ends in .gz or .zst.

    Memory stays bounded whatever the file holds: a block is about 1 MiB, and at most 64 MiB where a small
    piece of a compressed file stands for a great deal of text.

    Raises:
        UserError: the file is missing, cannot be read, is damaged or ends too early; it is named.
    """
    reader = {".gz": _gzip_blocks, ".zst": _zstd_blocks}.get(path.suffix, _plain_blocks)
    with explained(path):
        yield from reader(path)


def _plain_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def _gzip_blocks(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def _zstd_blocks(path: Path) -> Iterator[bytes]:
    """Decompress frame after frame; zstandard's own stream reader takes a cut file for a whole one."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW_BYTES)
    with path.open("rb") as file:
        frame, inside_frame, pending, size = decompressor.decompressobj(), False, [], 0
        while data := file.read(_ZSTD_INPUT_BYTES):
            while data:
                block = frame.decompress(data)
                inside_frame, data = not frame.eof, frame.unused_data
                pending.append(block)
                size += len(block)
                if frame.eof:
                    frame = decompressor.decompressobj()
                if size >= BLOCK_BYTES:
                    yield b"".join(pending)
                    pending, size = [], 0
        if inside_frame:
            raise EOFError
        if size:
            yield b"".join(pending)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what goes wrong while `path` is read into one sentence that names it."""
    try:
        yield
    except EOFError:
        raise UserError(f"{path} ends too early (a cut download?)", fix="fetch or write the file again") from None
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise UserError(
            f"{path} is not a valid {path.suffix} file ({error})", fix="fetch the file again, or mend its name"
        ) from None
    except FileNotFoundError:
        raise UserError(f"no such file: {path}", fix="check the path") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UserError(f"{path} cannot be read ({reason})", fix="check the path and its permissions") from None
