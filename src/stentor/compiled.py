"""How every kernel here is compiled: without the interpreter's lock, and kept on the disk where one may write.

Kernels are fast only while no reference is counted within their loops: arrays are taken out of named tuples before
the loop, `borrowed` where the loop branches, and what the loop calls is `inlined`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np
from numba import njit
from numba.extending import intrinsic
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")
Int: TypeAlias = Any
"""An integer within a kernel: Python's own or one of numpy's, a machine word in either case."""
Bytes: TypeAlias = NDArray[np.uint8]


def kernel(function: Callable[P, R], **options: Any) -> Callable[P, R]:
    """Compile a function on its first call, or load what an earlier process compiled.

    Where neither the package's folder nor the user's cache may be written, it is compiled again in every process.

    Args:
        function: what is compiled.
        options: more of numba's own.
    """
    try:
        compiled: Any = njit(nogil=True, cache=True, **options)(function)
        # What is cached knows only the file of the kernel itself; it must not outlive a change of what is inlined.
        compiled._cache._cache_file._source_stamp = _stamp(Path(function.__code__.co_filename).parent)
    except (RuntimeError, AttributeError):  # "cannot cache function ...: no locator available"
        return njit(nogil=True, **options)(function)
    return compiled


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function into the kernels that call it."""
    return njit(nogil=True, inline="always")(function)


def _borrowed(typing_context: Any, array: Any) -> Any:
    """Return an array, within a kernel, as one that owns nothing: no reference to it is ever counted.

    Counting is atomic and takes as long as a step of the trie. Whoever called the kernel keeps the array alive.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.return_type)(context, builder, arguments[0])
        view.meminfo = view.meminfo.type(None)
        view.parent = view.parent.type(None)
        return view._getvalue()

    return array(array), code


borrowed: Any = intrinsic(_borrowed)


@cache
def _stamp(folder: Path) -> str:
    """Return a digest of every file that a kernel of this folder may be made of."""
    files = sorted({*Path(__file__).parent.glob("*.py"), *folder.glob("*.py")})
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
