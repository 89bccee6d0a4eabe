"""Mistakes a user can act on: one sentence, where it happened, and how to fix it.

Everything that is the user's to mend is raised as one of these and printed by the command line without a
traceback; anything else that escapes is a bug of ours (exit code 1).
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EBUSY, errno.EIO, errno.EMFILE),
}


class StentorError(Exception):
    """Base of all errors a user can mend.

    Args:
        message: what is wrong and where, in one sentence without a final stop.
        fix: what to do about it; a command where possible.
    """

    exit_code = 3

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.fix}" if self.fix else self.message


class UserError(StentorError):
    """The input is bad: a missing file, a wrong value, an output that exists (exit code 3)."""


class CorruptArtifactError(UserError):
    """A file of ours is truncated, altered or of another version (exit code 3)."""


class UsageError(StentorError):
    """The command line cannot be understood (exit code 2)."""

    exit_code = 2


class MissingDependencyError(StentorError):
    """An optional package or a device that this command needs is absent (exit code 4)."""

    exit_code = 4


class InterruptedRunError(StentorError):
    """The run was asked to stop, has saved its state and can be resumed (exit code 130)."""

    exit_code = 130


class EchoedError(StentorError):
    """This process of several ends since another one did, which has said why (exit code as if this had)."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process has said what is wrong")
        self.exit_code = exit_code


def missing_extra(package: str, extra: str, *, needed_for: str) -> MissingDependencyError:
    """Return the error that names the extra which brings `package`."""
    return MissingDependencyError(
        f"{needed_for} needs the package {package!r}, which is not installed",
        fix=f"pip install 'stentor[{extra}]'",
    )


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return a hint for a misspelt name: the nearest known one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def refusal_of(error: OSError, path: Path | None = None) -> UserError | None:
    """Return the sentence for what the operating system refused; None where no user could mend it.

    Args:
        error: as the system raised it.
        path: what was being used, where the error does not say.
    """
    place = error.filename or path
    if error.errno in _DISK_FULL:
        return UserError(
            f"no space left on the disk{f' while writing {path}' if path else ''}",
            fix="free some space and run the same command again; nothing was lost",
        )
    if error.errno in _REFUSED and place is not None:
        return UserError(
            f"{place} cannot be used ({os.strerror(error.errno)})",
            fix="check that path, or choose a place you may write to",
        )
    return None
