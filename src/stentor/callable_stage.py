"""Let a stage be called like its main function: `stentor.train(...)` beside `stentor.train.loop`.

The public functions `train` and `evaluate` share their names with the folders of their stages. Importing anything of a
stage binds its package to that name, so the package itself is what must be callable.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def make_callable(package: str, home: str, function: str) -> None:
    """Make calling `package` call `function` of the module `home`, which is imported when that happens.

    Args:
        package: full name of the package that is being imported.
        home: full name of the module that defines the function.
        function: its name there.
    """

    class Stage(ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return getattr(import_module(home), function)(*args, **kwargs)

    sys.modules[package].__class__ = Stage
