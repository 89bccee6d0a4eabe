"""The public names and what importing them costs; and the tree as the data flow: a stage imports earlier ones only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import stentor

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "stentor"
FILES = sorted(PACKAGE.rglob("*.py"))

PUBLIC = {
    "Evaluation": "stentor.model.measure",
    "Recipe": "stentor.config",
    "Tokenizer": "stentor.tokenizer.base",
    "evaluate": "stentor.evaluate.text",
    "load": "stentor.runtime.engine",
    "load_stentor2": "stentor.model.stentor2",
    "train": "stentor.run",
}
STAGES = (
    *("text", "tokenizer", "hf", "shards", "model", "train", "runtime", "evaluate", "export", "finetune", "bench"),
    *("report", "cli"),
)
SHARED = ("errors", "artifacts", "config", "version", "callable_stage", "compiled", "json_text", "sealed", "within")
"""Any stage may import these."""
CONDUCTORS = ("prepare", "run", "demo", "doctor", "__init__", "__main__")
"""These put stages together, so only the command line and each other may import them."""
ALLOWED_FOR_CONFIG = ("stentor.model.config", "stentor.model.presets", "stentor.errors")


# --- names ---


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_public_names_are_these():
    assert set(stentor.__all__) == {*PUBLIC, "__version__"}
    assert dir(stentor) == sorted(stentor.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_resolves_lazily_and_first(name):
    run_python(
        f"import sys, stentor; assert {PUBLIC[name]!r} not in sys.modules\n"
        f"value = stentor.{name}\n"
        f"from stentor import {name} as again\n"
        "assert callable(value) and value is again"
    )


@pytest.mark.parametrize("name", ["Evaluation", "Recipe", "Tokenizer", "load", "load_stentor2"])
def test_names_are_those_of_their_homes(name):
    value = getattr(stentor, name)
    assert (value.__module__, value.__name__) == (PUBLIC[name], name)


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_stages_that_are_called_call_their_function(name, monkeypatch):
    monkeypatch.setattr(f"{PUBLIC[name]}.{name}", lambda *args, **kwargs: (args, kwargs))
    assert getattr(stentor, name)("a", b="c") == (("a",), {"b": "c"})


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'stentor' has no attribute 'trian'"):
        stentor.trian  # noqa: B018
    assert not hasattr(stentor, "Trainer")


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import stentor", {"torch", "numpy", "tokenizers", "safetensors", "typer", "datasets", "transformers"}),
        ("import stentor; stentor.Recipe.load('tiny')", {"torch", "numpy", "tokenizers", "transformers"}),
        ("import stentor; stentor.Tokenizer", {"torch", "transformers", "datasets"}),
        ("import stentor.prepare", {"torch", "transformers", "datasets", "matplotlib", "pyarrow"}),
        ("import stentor.train.loop", {"transformers", "datasets", "matplotlib", "pyarrow", "gguf"}),
        ("import stentor; stentor.load", {"torch", "transformers", "datasets", "matplotlib", "pyarrow", "gguf"}),
        ("import stentor; stentor.load_stentor2", {"torch", "transformers", "datasets", "matplotlib", "gguf"}),
        ("import stentor.evaluate.text", {"torch", "transformers", "datasets", "matplotlib", "pyarrow", "gguf"}),
        ("import stentor.cli.main", {"torch", "numba", "numpy", "tokenizers", "transformers"}),
    ],
)
def test_importing_loads_no_more_than_it_needs(statement, absent):
    loaded = run_python(f"import sys; {statement}; print(*sorted(name for name in sys.modules if '.' not in name))")
    assert not absent & set(loaded.split())


# --- layers ---


def module_name(path: Path) -> str:
    return ".".join(("stentor", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_name(path) for path in FILES}


def imports_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of every module of ours that is imported, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "stentor")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "stentor":
            assert node.module
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield node.lineno, submodule if submodule in MODULES else node.module


def part_of(module: str) -> str:
    """Return the stage, or the module beside the stages, that a module belongs to."""
    return (module.split(".") + ["__init__"])[1]


def violation(importer: str, imported: str) -> str:
    """Say which rule an import breaks; nothing where it breaks none."""
    source, target = part_of(importer), part_of(imported)
    if source == target or target == "version":
        return ""
    if source == "config":
        return "" if imported in ALLOWED_FOR_CONFIG else "config may know only the model's sizes"
    if source in SHARED:
        return "" if target in SHARED else "a shared module may not know a stage"
    if target in SHARED:
        return ""
    if target in CONDUCTORS:
        return "" if source in (*CONDUCTORS, "cli") else "only the command line may import what conducts the stages"
    if source in CONDUCTORS:
        return "" if target != "cli" or source == "__main__" else "the command line is the last stage"
    return "" if STAGES.index(target) < STAGES.index(source) else f"{target} is a later stage than {source}"


def test_every_part_has_its_place():
    parts = {part_of(name) for name in MODULES}
    assert parts - {"recipes"} == {*STAGES, *SHARED, *CONDUCTORS} & parts - {"recipes"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_stage_imports_earlier_stages_only(path):
    importer = module_name(path)
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {imported}: {rule}"
        for line, imported in imports_of(ast.parse(path.read_text(encoding="utf-8")))
        if (rule := violation(importer, imported))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("stentor.shards.build", "stentor.tokenizer.base", True),
        ("stentor.tokenizer.bpe", "stentor.shards.build", False),
        ("stentor.train.loop", "stentor.errors", True),
        ("stentor.train.loop", "stentor.cli.output", False),
        ("stentor.train.loop", "stentor.prepare", False),
        ("stentor.cli.train", "stentor.prepare", True),
        ("stentor.prepare", "stentor.shards.build", True),
        ("stentor.prepare", "stentor.cli.output", False),
        ("stentor.config", "stentor.model.config", True),
        ("stentor.config", "stentor.model.llama", False),
        ("stentor.artifacts", "stentor.text.clean", False),
        ("stentor.artifacts", "stentor.errors", True),
    ],
)
def test_the_layer_check_sees(importer, imported, allowed):
    assert (violation(importer, imported) == "") is allowed
