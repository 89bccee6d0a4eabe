"""How the package must read, checked: one writer, no pickle, small files and functions, everything documented."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "stentor"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_MEDIAN_FUNCTION_LINES = 12
WRITERS = {
    "write_text",
    "write_bytes",
    "save_file",
    "save",
    "savez",
    "savez_compressed",
    "tofile",
    "memmap",
    "open_memmap",
}
"""Calls that write a file under a name of their own; `save` and `memmap` only as attributes of a library."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def num_lines(function: Function) -> int:
    """Count the lines of a function without its docstring and decorators."""
    docstring = function.body[0] if ast.get_docstring(function) else None
    documented = docstring.end_lineno - docstring.lineno + 1 if docstring and docstring.end_lineno else 0
    assert function.end_lineno
    return function.end_lineno - function.lineno + 1 - documented


def called_name(call: ast.Call) -> str:
    """Return `open` for open(...), `torch.save` for torch.save(...), `.open` for anything().open(...)."""
    if isinstance(call.func, ast.Name):
        return call.func.id
    if isinstance(call.func, ast.Attribute):
        owner = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
        return f"{owner}.{call.func.attr}"
    return ""


def mode_of(call: ast.Call) -> str:
    """Return the mode a call of open is given: a literal, or `r` where there is none."""
    is_method = isinstance(call.func, ast.Attribute) and called_name(call) not in ("io.open", "gzip.open", "lzma.open")
    position = 0 if is_method else 1
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] + call.args[position : position + 1]
    return given[0].value if given and isinstance(given[0], ast.Constant) and isinstance(given[0].value, str) else "r"


def writes(call: ast.Call) -> bool:
    owner, _, name = called_name(call).rpartition(".")
    if name == "open":
        return owner not in ("staging", "os") and bool(set(mode_of(call)) & set("wax+"))
    if name in ("memmap", "open_memmap"):
        return not any(
            k.arg == "mode" and isinstance(k.value, ast.Constant) and k.value.value == "r" for k in call.keywords
        )
    return name in WRITERS and not (name == "save" and owner not in ("torch", "np", "numpy"))


@each_file
def test_only_artifacts_opens_files_for_writing(path):
    """Libraries that insist on writing themselves get a path inside a staged folder: that line says so."""
    if path == PACKAGE / "artifacts.py":
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {lines[node.lineno - 1].strip()}"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and writes(node)
        if "staging.path" not in ast.unparse(node)
    ]
    assert not found, "write through stentor.artifacts:\n" + "\n".join(found)


@each_file
def test_nothing_unpickles(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not imported & {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
        if isinstance(node, ast.Call):
            assert called_name(node) not in ("torch.load", "eval", "exec", "os.system")
            assert not any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords)
            assert not any(k.arg == "shell" and ast.unparse(k.value) != "False" for k in node.keywords)


@each_file
def test_files_and_functions_are_small(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_FILE_LINES
    long = [f"{f.name} has {num_lines(f)}" for f in functions(tree_of(path)) if num_lines(f) > MAX_FUNCTION_LINES]
    assert not long


def test_half_of_all_functions_are_tiny():
    lengths = [num_lines(function) for path in FILES for function in functions(tree_of(path))]
    assert statistics.median(lengths) <= MAX_MEDIAN_FUNCTION_LINES


def public_nodes(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Name the public functions and classes at the top of a module, and the public methods of those classes."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for member in node.body:
                    if isinstance(member, Function) and not member.name.startswith("_"):
                        yield f"{node.name}.{member.name}", member


@each_file
def test_everything_public_is_documented_and_annotated(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree), "the module has no docstring"
    for name, node in public_nodes(tree):
        assert isinstance(node, Function | ast.ClassDef)
        overrides = isinstance(node, Function) and any(ast.unparse(d).endswith("override") for d in node.decorator_list)
        assert ast.get_docstring(node) or overrides, f"{name} has no docstring"
        if isinstance(node, Function):
            assert node.returns is not None, f"{name} does not say what it returns"


@each_file
def test_source_is_ascii(path):
    text = path.read_bytes()
    assert text.isascii(), f"line {text[: next(i for i, b in enumerate(text) if b > 127)].count(10) + 1}"


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "misc"])
def test_no_drawer_for_odds_and_ends(name):
    assert not list(PACKAGE.rglob(f"{name}.py"))


# --- the checks themselves ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("open(p)", False),
        ("open(p, 'rb')", False),
        ("open(p, 'w')", True),
        ("open(p, mode='ab')", True),
        ("p.open()", False),
        ("p.open('rb')", False),
        ("p.open('wb')", True),
        ("Path(p).open('r+b')", True),
        ("gzip.open(p, 'wt')", True),
        ("gzip.open(p, 'rt')", False),
        ("staging.open('wax')", False),
        ("os.open(p, flags)", False),
        ("p.write_text(x)", True),
        ("torch.save(x, p)", True),
        ("self.save(x)", False),
        ("save_file(x, p)", True),
        ("np.save(p, x)", True),
        ("np.memmap(p, mode='r')", False),
        ("np.memmap(p, mode='w+')", True),
        ("write_file(p, x)", False),
    ],
)
def test_the_writer_check_sees(source, expected):
    call = ast.parse(source, mode="eval").body
    assert isinstance(call, ast.Call)
    assert writes(call) is expected


def test_the_line_count_leaves_docstrings_out():
    (function,) = functions(ast.parse('@x\ndef f():\n    """A\n\n    B\n    """\n    return 1\n'))
    assert num_lines(function) == 2
