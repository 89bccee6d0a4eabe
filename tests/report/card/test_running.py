"""How to run a model: what is there can be run as the card says, what is not there has its command."""

from __future__ import annotations

import ast
import dataclasses
import html
import json
import os
import re
import shlex
import shutil

import pytest
from markdown_it import MarkdownIt

from stentor.artifacts import write_file
from stentor.report.card.about import About
from stentor.report.card.running import running
from stentor.report.card.subject import ShippedFile, open_subject


def with_files(material, *names: str):
    files = (*material.subject.files, *(ShippedFile(name, 1, "0") for name in names))
    return dataclasses.replace(material, subject=dataclasses.replace(material.subject, files=files))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)\n```", text, re.DOTALL)


def test_a_plain_folder(bare):
    text = running(bare)
    assert "opened in transformers 5: token ids equal on 10,000 mixed strings" in text
    assert re.findall(r"^### (.*)", text, re.MULTILINE) == [
        "transformers",
        "llama.cpp",
        "onnxruntime and transformers.js",
        "Stentor",
    ]
    assert "`stentor export model model.gguf --to gguf --dtype q8_0`" in text
    assert "`stentor export model model-onnx --to onnx`" in text


def test_other_formats_are_run_where_they_are(bare):
    text = running(with_files(bare, "model.gguf", "onnx/model.onnx", "onnx/model_quantized.onnx"))
    assert "llama-cli -m model.gguf" in text
    assert 'InferenceSession("onnx/model.onnx")' in text
    assert '"model", { dtype: "q8" }' in text
    assert "--to gguf" not in text
    assert 'dtype: "fp32"' in running(with_files(bare, "onnx/model.onnx"))


def test_python_that_is_shown_is_python(bare):
    text = running(with_files(bare, "onnx/model.onnx"))
    programs = blocks(text, "python")
    assert len(programs) == 2
    for program in programs:
        ast.parse(program)


def test_the_id_on_the_hub_is_named(bare):
    text = running(dataclasses.replace(bare, about=About(repo="org/m")))
    assert 'from_pretrained("org/m")' in text
    assert "--model org/m" in text


def test_tokenmonster_says_what_it_needs(bare, tiny_tokenmonster):
    subject = dataclasses.replace(bare.subject, tokenizer=tiny_tokenmonster)
    text = running(with_files(dataclasses.replace(bare, subject=subject), "onnx/model.onnx"))
    assert "import stentor.hf  # registers" in text
    assert "whose ids are not the model's own" in text
    assert "It has no TokenMonster, and cannot turn text into this model's ids." in text


def test_a_proof_that_is_not_there(bare, model_folder, tmp_path, monkeypatch):
    unproven = dataclasses.replace(bare, subject=dataclasses.replace(bare.subject, folder=tmp_path, origin=tmp_path))
    assert "Before this folder was kept" not in running(unproven)
    for export, said in (({"proof": None}, "**Unverified**"), ({"proof": {"consumer": "x"}}, "### transformers")):
        monkeypatch.setattr(type(bare.subject), "export", property(lambda self, export=export: export))
        assert running(bare).startswith(said)


@pytest.mark.slow
def test_the_program_for_transformers_runs(model_folder, bare, tmp_path, monkeypatch, capsys):
    """The very lines of the card, on the folder they are about."""
    shutil.copytree(model_folder, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    (program,) = blocks(running(bare), "python")
    program = program.replace("max_new_tokens=50", "max_new_tokens=4")
    exec(compile(program, "card", "exec"), {})
    assert capsys.readouterr().out.startswith("The history of computing began")


def test_a_gguf_file_alone(tmp_path):
    from importlib import resources

    shipped = resources.files("stentor") / "models" / "stentor-12m"
    folder = tmp_path / "m"
    folder.mkdir()
    for name in ("model.gguf", "tokenizer.json"):
        with resources.as_file(shipped / name) as path:
            write_file(folder / name, path.read_bytes())
    subject = open_subject(folder, run_dir=None)
    assert subject.origin == folder / "model.gguf"
    assert [file.name for file in subject.named(".gguf")] == ["model.gguf"]


NAMES = ["my model", "it's", 'an "odd" one', "a`b", "$HOME;x", "a|b", "\u65e5\u672c"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_folder_can_be_copied_as_it_stands(bare, name):
    folder = bare.subject.folder.parent / name
    subject = dataclasses.replace(bare.subject, folder=folder, origin=folder)
    text = running(with_files(dataclasses.replace(bare, subject=subject), f"onnx/{name}.onnx"))
    in_transformers, in_onnxruntime = map(ast.parse, blocks(text, "python"))
    assert name in [node.value for node in ast.walk(in_transformers) if isinstance(node, ast.Constant)]
    assert f"onnx/{name}.onnx" in [node.value for node in ast.walk(in_onnxruntime) if isinstance(node, ast.Constant)]
    (in_browser,) = blocks(text, "js")
    assert json.loads(re.findall(r'generation", (".*"), \{ dtype', in_browser)[0]) == name
    (in_shell,) = blocks(text, "sh")
    assert shlex.split(in_shell.splitlines()[1])[4] == name


@pytest.mark.parametrize("name", NAMES)
def test_commands_within_a_line_can_be_copied_too(bare, name):
    folder = bare.subject.folder.parent / name
    subject = dataclasses.replace(bare.subject, folder=folder, origin=folder)
    rendered = MarkdownIt().render(running(dataclasses.replace(bare, subject=subject)))
    to_gguf, to_onnx = (html.unescape(found) for found in re.findall(r"<code>(stentor export .*?)</code>", rendered))
    assert shlex.split(to_gguf) == ["stentor", "export", name, "model.gguf", "--to", "gguf", "--dtype", "q8_0"]
    assert shlex.split(to_onnx) == ["stentor", "export", name, f"{name}-onnx", "--to", "onnx"]


def test_a_gguf_file_with_a_space_in_its_name(bare):
    (command,) = [line for line in blocks(running(with_files(bare, "my model.gguf")), "sh") if "llama-cli" in line]
    assert shlex.split(command)[:3] == ["llama-cli", "-m", "my model.gguf"]


@pytest.mark.parametrize(
    "proof", [{}, [], 3, {"consumer": None, "num_strings": 1}, {"consumer": "x", "num_strings": "y"}]
)
def test_a_proof_in_other_words_is_left_out(bare, monkeypatch, proof):
    monkeypatch.setattr(type(bare.subject), "export", property(lambda self: {"proof": proof, "path": "x"}))
    assert "Before this folder was kept" not in running(bare)
