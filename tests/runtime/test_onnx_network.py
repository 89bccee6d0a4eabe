"""Graphs in onnxruntime behind our protocol: the logits of a fresh pass, whatever was read and taken back before."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from networks import on_cpu, random_llama, tensors_of
from onnx import numpy_helper

from stentor.artifacts import staged_directory
from stentor.errors import MissingDependencyError, UserError
from stentor.evaluate.text import evaluate
from stentor.export.onnx_graph import build_onnx
from stentor.export.onnx_quantize import quantize_onnx_int8
from stentor.model.folder import write_settings
from stentor.runtime import onnx_network
from stentor.runtime.engine import LanguageModel, load
from stentor.runtime.onnx_network import OnnxNetwork, open_onnx
from stentor.runtime.open import exact_dtype

PROMPT = "The people who"


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def llama(request, tiny_config):
    return random_llama(dataclasses.replace(tiny_config, carrier=request.param, num_key_value_heads=1))


@pytest.fixture(scope="module")
def folder(llama, tiny_tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model"
    with staged_directory(path, kind="model") as staging:
        write_settings(staging, llama.config, tiny_tokenizer)
        staging.write("onnx/model.onnx", build_onnx(llama.config, tensors_of(llama)).SerializeToString())
        quantize_onnx_int8(staging.path / "onnx/model.onnx", staging.path / "onnx/model_quantized.onnx")
    return path


@pytest.fixture(scope="module")
def network(folder):
    return open_onnx(folder / "onnx" / "model.onnx", num_threads=1)


def logits_of(llama, token_ids):
    with torch.no_grad():
        return llama(torch.tensor([token_ids]))[0].numpy()


def test_reading_back_and_forth_gives_the_logits_of_a_fresh_pass(llama, network):
    context, generator, read = llama.config.max_position_embeddings, np.random.default_rng(0), []
    network = network.fresh()
    for _ in range(25):
        start = int(generator.integers(0, len(read) + 1))
        more = generator.integers(0, 300, min(context - start, int(generator.integers(1, 6)))).tolist()
        if not more:
            continue
        read[start:] = more
        all_scored = bool(generator.integers(2))
        made = network.extend(more, start, all_scored=all_scored)
        expected = logits_of(llama, read)[start:] if all_scored else logits_of(llama, read)[-1:]
        np.testing.assert_allclose(made, expected, atol=2e-3, rtol=1e-4)
        assert made.dtype == np.float32
        made[:] = 0  # whoever asks may write to it


def test_sequences_are_kept_apart_and_can_begin_alike(llama, network):
    three = network.fresh(3)
    three.extend([1, 2, 3], 0)
    three.share(2)
    made = three.extend_each([7, 8, 9], [2, 2, 2], [0, 1, 2])
    for row, token in zip(made, (7, 8, 9), strict=True):
        np.testing.assert_allclose(row, logits_of(llama, [1, 2, token])[-1], atol=2e-3, rtol=1e-4)
    np.testing.assert_allclose(
        three.extend([4], 3, sequence=1), logits_of(llama, [1, 2, 8, 4])[-1:], atol=2e-3, rtol=1e-4
    )


def test_a_fresh_network_has_read_nothing(llama, network):
    network.extend([1, 2, 3], 0)
    np.testing.assert_allclose(network.fresh().extend([7], 0), logits_of(llama, [7]), atol=2e-3, rtol=1e-4)


def test_windows_are_scored_as_on_our_engine(llama, network):
    generator = np.random.default_rng(3)
    inputs, targets = generator.integers(0, 300, (2, 3, 20))
    targets[2, 15:] = -100
    expected = on_cpu(llama).window_nats(inputs, targets)
    np.testing.assert_allclose(network.window_nats(inputs, targets), expected, atol=1e-3, rtol=1e-4)


def test_ids_and_positions_out_of_range_are_refused(network):
    with pytest.raises(UserError, match="outside the model's vocabulary"):
        network.extend([100_000], 0)
    with pytest.raises(UserError, match="outside the model's context"):
        network.extend([1], network.config.max_position_embeddings)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_threads_are_those_that_were_asked_for(folder, num_threads):
    session = open_onnx(folder / "onnx" / "model.onnx", num_threads=num_threads)._session
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (num_threads, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_without_a_number_all_usable_cores_compute(folder, monkeypatch):
    monkeypatch.setattr(onnx_network, "usable_cores", lambda: 2.5)
    assert open_onnx(folder / "onnx" / "model.onnx")._session.get_session_options().intra_op_num_threads == 2


@pytest.mark.parametrize("name", ["", "onnx", "onnx/model.onnx"])
def test_greedy_text_is_our_engine_s(llama, folder, tiny_tokenizer, name):
    ours = LanguageModel(on_cpu(llama), tiny_tokenizer)
    theirs = load(folder / name if name else folder, num_threads=1)
    options = {"temperature": 0, "max_new_tokens": 30, "ignore_eos": True}
    assert theirs.generate(PROMPT, **options) == ours.generate(PROMPT, **options)
    assert theirs.origin == folder / "onnx" / "model.onnx"


def test_the_int8_form_is_opened_by_its_name(llama, folder):
    model = load(folder / "onnx" / "model_quantized.onnx", num_threads=1)
    made = model.network.extend([1, 2, 3], 0)
    assert np.corrcoef(made.ravel(), logits_of(llama, [1, 2, 3])[-1])[0, 1] > 0.99
    assert model.generate(PROMPT, max_new_tokens=5)


def test_sampled_continuations_and_drafts_work(folder):
    model = load(folder, num_threads=1)
    assert [made.text for made in model.complete(PROMPT, n=3, max_new_tokens=8, seed=4)] == [
        made.text for made in model.complete(PROMPT, n=3, max_new_tokens=8, seed=4)
    ]
    drafted = model.generate(PROMPT, draft="lookup", temperature=0, max_new_tokens=20)
    assert drafted == model.generate(PROMPT, temperature=0, max_new_tokens=20)


def copied(folder, tmp_path):
    shutil.copytree(folder, copy := tmp_path / "copy")
    (copy / "manifest.json").unlink()
    return copy


def altered(folder, tmp_path, change):
    """Return a copy whose graph was changed."""
    copy = copied(folder, tmp_path)
    model = onnx.load(copy / "onnx" / "model.onnx")
    change(model.graph)
    onnx.save(model, copy / "onnx" / "model.onnx")
    return copy


def set_constant(graph, name, value):
    constant = next(constant for constant in graph.initializer if constant.name == name)
    array = numpy_helper.to_array(constant).copy()
    array[:] = value
    constant.CopyFrom(numpy_helper.from_array(array, name))


def test_a_graph_that_onnxruntime_does_not_open_is_refused_in_one_sentence(folder, tmp_path):
    copy = altered(folder, tmp_path, lambda graph: graph.node.pop())
    with pytest.raises(UserError, match=r"onnxruntime does not open .*model\.onnx: ") as caught:
        load(copy)
    assert str(caught.value).count("\n") == 1


def test_a_graph_that_was_cut_is_refused_before_onnxruntime_reads_it(folder, tmp_path, monkeypatch):
    monkeypatch.delattr(onnx_network.onnxruntime, "InferenceSession")
    copy = copied(folder, tmp_path)
    file = copy / "onnx" / "model.onnx"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"model\.onnx is damaged: a field of its protobuf is longer") as caught:
        load(copy)
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/model_quantized.onnx", "config.json", "tokenizer.json"])
def test_a_file_that_was_altered_since_the_export_is_refused(folder, tmp_path, name):
    shutil.copytree(folder, copy := tmp_path / "sealed")
    data = bytearray((copy / name).read_bytes())
    data[-2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"{Path(name).name} (does not match its checksum|is damaged|is not a whole)"):
        load(copy / name if name.endswith(".onnx") else copy)


def test_what_fails_only_when_it_computes_is_refused_as_it_is_opened(folder, tmp_path):
    def change(graph):
        graph.input[2].type.tensor_type.shape.dim[0].dim_value = 9

    copy = altered(folder, tmp_path, change)
    with pytest.raises(UserError, match=r"model\.onnx cannot be computed: .*ONNXRuntimeError") as caught:
        load(copy)
    assert str(caught.value).count("\n") == 1
    assert len(caught.value.message) < 1000


def test_predictions_that_are_not_numbers_are_refused(folder, tmp_path):
    copy = altered(folder, tmp_path, lambda graph: set_constant(graph, "model.norm.weight", 3e38))
    with pytest.raises(UserError, match=r"model\.onnx cannot be computed: its predictions are not numbers"):
        load(copy)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(np.nan, "its predictions are not numbers"), (np.inf, "not numbers"), (RuntimeError("one\ntwo"), "one$")],
)
def test_what_goes_wrong_later_is_refused_then(network, answer, reason):
    class Session:
        def run_with_ort_values(self, names, feed):
            if isinstance(answer, Exception):
                raise answer
            logits, *present = network._session.run_with_ort_values(names, feed)
            array = logits.numpy()
            array[0, -1, 5] = answer
            return [onnx_network._array(array), *present]

    with pytest.raises(UserError) as caught:
        OnnxNetwork(Session(), network.config, Path("m.onnx")).extend([1, 2], 0)
    assert re.search(f"^m.onnx cannot be computed: .*{reason}", caught.value.message)


@pytest.mark.parametrize("name", ["logits", "present.0.key"])
def test_what_has_another_shape_than_the_config_says_is_refused(folder, tmp_path, name):
    def change(graph):
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = ["whole" if found == name else found for found in names]
        graph.node.append(onnx.helper.make_node("Squeeze", ["whole"], [name]))

    copy = altered(folder, tmp_path, change)
    with pytest.raises(UserError, match=r"what it makes has another shape than its config\.json says"):
        load(copy)


def test_names_that_are_no_text_print_nothing(folder, tmp_path, capfd):
    """A graph that onnxruntime's Python cannot decode the complaint about made it print, and try again."""
    copy = copied(folder, tmp_path)
    file = copy / "onnx" / "model.onnx"
    file.write_bytes(file.read_bytes().replace(b"Sigmoid", b"Sigm\xefid"))
    with pytest.raises(UserError, match=r"onnxruntime does not open .*model\.onnx"):
        load(copy)
    assert capfd.readouterr() == ("", "")


def test_an_absurd_number_of_layers_makes_no_names(folder, tmp_path):
    copy = copied(folder, tmp_path)
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(text.replace('"num_hidden_layers": 2', f'"num_hidden_layers": {1 << 40}'))
    with pytest.raises(UserError, match=r"not the graph that its config\.json describes"):
        load(copy)


def test_another_model_s_config_is_refused(folder, tmp_path):
    copy = copied(folder, tmp_path)
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(UserError, match=r"not the graph that its config.json describes: .*\.2\.key"):
        load(copy)


@pytest.mark.parametrize("head_dim", ["4", "1e999", str(1 << 62), str(1 << 64)])
def test_a_config_of_other_heads_is_refused_before_there_are_any(folder, tmp_path, head_dim):
    copy = copied(folder, tmp_path)
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(re.sub(r'"head_dim": \d+', f'"head_dim": {head_dim}', text))
    with pytest.raises(UserError, match=r"differ in past_key_values\.0\.key|is not a whole config\.json"):
        load(copy)


def test_a_graph_of_something_else_is_refused(folder, tmp_path):
    copy = copied(folder, tmp_path)
    model = onnx.load(copy / "onnx" / "model.onnx")
    model.graph.input[0].name = "pixels"
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "input_ids" else name for name in node.input]
    onnx.save(model, copy / "onnx" / "model.onnx")
    with pytest.raises(UserError, match="differ in input_ids"):
        load(copy)


def test_a_graph_alone_is_refused(folder, tmp_path):
    shutil.copy(folder / "onnx" / "model.onnx", tmp_path / "alone.onnx")
    with pytest.raises(UserError, match=r"alone.onnx has no config.json beside it"):
        load(tmp_path / "alone.onnx")


def test_a_folder_without_a_tokenizer_is_refused(folder, tmp_path):
    copy = copied(folder, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    with pytest.raises(UserError, match=r"has no tokenizer\.json"):
        load(copy)


def test_other_devices_are_refused(folder):
    with pytest.raises(UserError, match="computes on the CPU here, not on cuda"):
        load(folder, device="cuda")
    assert load(folder, device="auto", num_threads=1).network.config


@pytest.mark.parametrize("dtype", ["float32", "int8", "bfloat16"])
def test_a_dtype_is_refused_since_the_file_has_one(folder, dtype):
    with pytest.raises(UserError, match=rf"computes in the dtype that it was exported with.*\({dtype}\)") as caught:
        load(folder, dtype=dtype)
    assert "model_quantized.onnx" in caught.value.fix
    with pytest.raises(UserError, match="there is no dtype"):
        load(folder, dtype="int2")


def test_who_wants_exact_numbers_names_no_dtype_of_a_graph(folder, tmp_path):
    assert exact_dtype(folder) is exact_dtype(folder / "onnx" / "model.onnx") is None
    assert exact_dtype("stentor-12m") == exact_dtype(tmp_path) == "float32"
    assert evaluate(folder, ["The people who"]).num_tokens == evaluate(load(folder), ["The people who"]).num_tokens


def test_without_onnxruntime_the_extra_is_named(folder):
    import subprocess
    import sys

    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "import stentor\nfrom stentor.errors import MissingDependencyError\n"
        "try:\n    stentor.load(sys.argv[1])\n"
        "except MissingDependencyError as error:\n    print(error.exit_code, error)"
    )
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("4 an ONNX model needs the package 'onnxruntime'")
    assert "stentor[export]" in done.stdout
    assert MissingDependencyError.exit_code == 4
