"""An exported graph at the command line: measured and continued as its model is, in the dtype that it has."""

from __future__ import annotations

import pytest

from stentor.export import source
from stentor.export.onnx import export_onnx

pytestmark = pytest.mark.slow
PLAIN, QUANTIZED = "onnx/model.onnx", "onnx/model_quantized.onnx"
ASKING = {
    "generate": ["generate", "A cat", "--model", "MODEL"],
    "evaluate": ["evaluate", "MODEL", "TEXT"],
    "memorization": ["memorization", "MODEL", "TEXT"],
    "contamination": ["contamination", "TEXT", "TEXT", "--model", "MODEL"],
}


@pytest.fixture(scope="module")
def exported(world, tmp_path_factory):
    """Return the run's best checkpoint as a folder of graphs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "NUM_STRINGS", 50)
        folder = tmp_path_factory.mktemp("onnx") / "exported"
        export_onnx(world.run, folder)
    return folder


def command(name, world, model) -> list:
    return [{"MODEL": model, "TEXT": world.text}.get(word, word) for word in ASKING[name]]


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("file", ["", PLAIN, QUANTIZED])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_dtype_is_refused_in_one_sentence(cli, world, exported, name, file, dtype):
    outcome = cli(*command(name, world, exported / file), "--dtype", dtype)
    outcome.fails(3, "computes in the dtype that it was exported with", f"({dtype})", "fix: leave --dtype out")
    assert len([line for line in outcome.err.splitlines() if line.startswith("error: ")]) == 1


def test_a_draft_that_is_a_graph_is_refused_alike(cli, world, exported):
    arguments = ["generate", "A cat", "--model", world.run, "--draft", exported, "--max-new-tokens", 3]
    cli(*arguments, "--dtype", "int8").fails(3, "computes in the dtype that it was exported with")
    assert cli(*arguments).code == 0


def test_it_is_measured_as_its_run_is_and_the_answer_names_no_dtype(cli, world, exported):
    of_run = cli("evaluate", world.run, world.text, "--no-baselines", "--json").value
    of_graph = cli("evaluate", exported, world.text, "--no-baselines", "--json").value
    assert of_graph["bits_per_byte"] == pytest.approx(of_run["bits_per_byte"], abs=1e-5)
    assert (of_run["dtype"], of_graph["dtype"]) == ("float32", "as its file")
    assert of_graph["model"] == str(exported / PLAIN)
    assert of_graph["text"] == of_run["text"] == str(world.text)


def test_its_int8_form_is_named_by_its_file(cli, world, exported):
    exact, rounded = (
        cli("evaluate", exported / file, world.text, "--no-baselines", "--json").value for file in (PLAIN, QUANTIZED)
    )
    assert rounded["bits_per_byte"] != exact["bits_per_byte"]
    assert rounded["bits_per_byte"] == pytest.approx(exact["bits_per_byte"], rel=0.05)
    assert (rounded["model"], rounded["dtype"]) == (str(exported / QUANTIZED), "as its file")


def test_commands_that_measure_say_that_the_file_decides(cli, world, exported):
    by_heart = cli("memorization", exported, world.text, "--samples", 3, "--prompt-tokens", 4, "--json").value
    assert by_heart["dtype"] == "as its file"
    assert cli("contamination", world.text, world.text, "--model", exported, "--json").value["losses"]


def test_it_is_compared_with_the_model_that_it_came_from(cli, world, exported):
    value = cli("compare", world.run, exported, "--text", world.text, "--json").value
    of_run, of_graph = (model["bits_per_byte"] for model in value["models"])
    assert of_graph == pytest.approx(of_run, abs=1e-5)


def test_it_continues_a_prompt_as_its_run_does(cli, world, exported):
    said = [
        cli("generate", "A cat", "--model", name, "--temperature", 0, "--max-new-tokens", 9, *dtype).out
        for name, dtype in ((world.run, ["--dtype", "float32"]), (exported, []))
    ]
    assert said[0] == said[1]
    assert said[0] != "\n"
