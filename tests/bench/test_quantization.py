"""Forms of a model side by side: what a row says, what is left out and why."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from stentor.artifacts import staged_directory, write_file
from stentor.bench import quantized_forms
from stentor.bench.quantization import LOGIT_TOKENS, compare_forms
from stentor.bench.quantized_forms import FORMS, Form, Opened, Workshop
from stentor.cli.quantization_table import quantization_table
from stentor.errors import UserError
from stentor.export.gguf import export_gguf
from stentor.model.weights import read_weights
from stentor.runtime.cpu import CpuNetwork


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a folder of a small model whose rows K-quants can cut."""
    import torch

    from stentor.model.config import ModelConfig
    from stentor.model.folder import write_model_folder
    from stentor.model.names import expected_shapes
    from stentor.tokenizer.bpe import train_bpe
    from stentor.tokenizer.probes import mixed_strings

    tokenizer = train_bpe(mixed_strings(200, seed=3), vocab_size=380)
    config = ModelConfig(
        vocab_size=384,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=64,
    )
    generator = torch.Generator().manual_seed(0)
    tensors = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in expected_shapes(config).items()}
    folder = tmp_path_factory.mktemp("forms") / "model"
    with staged_directory(folder, kind="model") as staging:
        write_model_folder(staging, config, tensors, tokenizer)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    lines = [json.dumps({"text": f"The river number {index} carries rain to the sea. " * 5}) for index in range(40)]
    write_file(path, "\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(autouse=True)
def no_children(monkeypatch):
    """Take no time in processes of their own: what they run is tested elsewhere."""
    monkeypatch.setattr(Workshop, "seconds_in", lambda self, engine, path, dtype: 0.5)


def named(*names):
    return [form for form in FORMS if form.name in names]


def test_forms_have_names_of_their_own_and_say_how_they_are_made():
    assert len({form.name for form in FORMS}) == len(FORMS)
    assert FORMS[0].name == "float32"
    assert all(form.made_by and form.program for form in FORMS)


def test_rows_say_what_each_form_costs_and_gives(model, text):
    forms = named("float32", "float16", "dynamic int8", "stentor int8", "gguf float16", "gguf q8_0", "gguf q4_0")
    found = compare_forms(model, text, forms=forms, num_tokens=300)
    rows = {row.form: row for row in found.rows}
    assert [*rows] == [form.name for form in forms]
    assert not found.not_measured
    assert 300 <= found.num_tokens < 600
    assert found.num_bytes > 0
    first = rows["float32"]
    assert (first.added_bits_per_byte, first.max_logit_difference) == (0, 0)
    assert first.tokens_per_second is not None
    assert first.tokens_per_second > 0
    assert rows["gguf q4_0"].tokens_per_second == 2.0
    assert rows["gguf q4_0"].size_bytes < rows["gguf q8_0"].size_bytes < rows["gguf float16"].size_bytes
    assert rows["dynamic int8"].size_bytes == first.size_bytes, "it has no file of its own"
    assert rows["float16"].size_bytes < 0.52 * first.size_bytes + 3000
    assert 0 < rows["gguf float16"].max_logit_difference < rows["gguf q8_0"].max_logit_difference
    assert rows["gguf q8_0"].max_logit_difference < rows["gguf q4_0"].max_logit_difference
    for row in found.rows:
        assert row.added_bits_per_byte == pytest.approx(row.bits_per_byte - first.bits_per_byte)
    body = found.to_dict()
    assert json.loads(json.dumps(body))["rows"][0]["form"] == "float32"
    table = quantization_table(found, {"cpu": "a cpu"})
    assert "a cpu" in table
    assert f"on {found.num_tokens:,} tokens" in table
    assert all(row.form in table for row in found.rows)


def test_graphs_of_onnx_are_forms_too(model, text):
    found = compare_forms(model, text, forms=named("float32", "onnx float32", "onnx int8"), num_tokens=200)
    _, plain, rounded = found.rows
    assert not found.not_measured
    assert plain.max_logit_difference < 1e-4 < rounded.max_logit_difference
    assert abs(plain.added_bits_per_byte) < 1e-5
    assert rounded.size_bytes < plain.size_bytes
    assert plain.measured_in == rounded.measured_in == "onnxruntime"
    assert plain.tokens_per_second == 2.0


def test_what_cannot_be_measured_is_named_with_its_reason(model, text, monkeypatch):
    absent = Form("absent", "nothing", "nothing", ("no_such_package",), lambda workshop: pytest.fail("opened"))

    def refuse(workshop):
        raise UserError("this shape has no such form", fix="none")

    forms = [*named("float32", "gguf q4_0, calibrated"), absent, Form("refused", "nothing", "nothing", (), refuse)]
    found = compare_forms(model, text, forms=forms, num_tokens=50)
    assert [row.form for row in found.rows] == ["float32"]
    assert found.not_measured == {
        "gguf q4_0, calibrated": "needs --calibrate TEXT",
        "absent": "needs the package 'no_such_package'",
        "refused": "this shape has no such form; none",
    }
    assert "not measured: absent: needs the package 'no_such_package'" in quantization_table(found, {"cpu": "x"})


def test_what_a_foreign_program_raises_is_its_reason_not_the_end(model, text):
    def fail(workshop):
        raise RuntimeError("kernel image is missing")

    forms = [*named("float32"), Form("foreign", "x", "x", (), fail)]
    assert compare_forms(model, text, forms=forms, num_tokens=50).not_measured == {
        "foreign": "RuntimeError: kernel image is missing"
    }


def test_a_form_is_added_by_a_function_that_opens_it(model, text):
    def open_it(workshop, *, dtype):
        read = read_weights(workshop.plain_folder)
        return Opened(7, CpuNetwork(read.config, read.arrays, dtype=dtype), lambda: None)

    forms = [*named("float32"), Form("mine", "me", "by hand", (), partial(open_it, dtype="float32"))]
    row = compare_forms(model, text, forms=forms, num_tokens=50).rows[1]
    assert (row.form, row.measured_in, row.size_bytes, row.tokens_per_second) == ("mine", "me", 7, None)
    assert abs(row.added_bits_per_byte) < 1e-5


def test_k_quants_and_a_text_to_calibrate_on(model, text):
    forms = named("float32", "gguf q4_k_m", "gguf q6_k", "gguf q4_0", "gguf q4_0, calibrated", "gguf int8")
    found = compare_forms(model, text, calibrate=text, forms=forms, num_tokens=60)
    assert not found.not_measured
    rows = {row.form: row for row in found.rows}
    assert rows["gguf q4_k_m"].size_bytes < rows["gguf q6_k"].size_bytes
    assert rows["gguf q6_k"].max_logit_difference < rows["gguf q4_k_m"].max_logit_difference
    assert rows["gguf q4_0"].size_bytes == rows["gguf q4_0, calibrated"].size_bytes


@pytest.mark.parametrize("form", ["int8", "nf4"])
def test_bitsandbytes_opens_the_plain_folder(model, text, form):
    pytest.importorskip("bitsandbytes")
    found = compare_forms(model, text, forms=named("float32", f"bitsandbytes {form}"), num_tokens=20)
    assert not found.not_measured
    assert 0 < found.rows[1].max_logit_difference < 10


def test_a_text_that_is_empty_is_refused(model, tmp_path):
    write_file(tmp_path / "empty.jsonl", '{"text": ""}\n')
    with pytest.raises(UserError, match=r"no text|no document"):
        compare_forms(model, str(tmp_path / "empty.jsonl"), forms=named("float32"))


def test_the_first_form_must_be_there(model, text, monkeypatch):
    def refuse(workshop):
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        compare_forms(model, text, forms=[Form("first", "x", "x", (), refuse)])


def test_logits_are_compared_over_a_bounded_beginning(model, text):
    seen = []

    class Watched(CpuNetwork):
        def extend(self, token_ids, start, **options):
            seen.append(len(token_ids))
            return super().extend(token_ids, start, **options)

    def open_it(workshop):
        read = read_weights(workshop.plain_folder)
        return Opened(1, Watched(read.config, read.arrays), lambda: None)

    compare_forms(model, text, forms=[Form("first", "x", "x", (), open_it)], num_tokens=500)
    assert seen[0] == min(LOGIT_TOKENS, 64), "the context holds 64"


@pytest.mark.parametrize(
    "dtype", ["q4_k_m", *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in ("q5_k_m", "q6_k"))]
)
def test_llama_cpp_agrees_on_k_quants(model, tmp_path, monkeypatch, dtype):
    from stentor.export import source

    monkeypatch.setattr(source, "NUM_STRINGS", 100)
    report = export_gguf(model, tmp_path / "m.gguf", dtype=dtype)
    assert report.proof is not None
    assert report.proof.stored.mean_kl_nats < 5e-3
    read = read_weights(tmp_path / "m.gguf")
    kinds = {getattr(array, "kind", "F32") for array in read.arrays.values()}
    assert kinds <= {"F32", "Q4_K", "Q5_K", "Q6_K"}
    assert "Q6_K" in kinds
    logits = CpuNetwork(read.config, read.arrays).extend([1, 2, 3], 0)
    assert np.isfinite(logits).all()


def test_timing_asks_the_engine_at_a_position_the_context_holds(model, monkeypatch, tmp_path):
    monkeypatch.undo()
    asked = []

    def measure_once(request):
        asked.append(request)
        return type("Measured", (), {"decode_seconds": {request.work.positions[0]: 0.25}})

    monkeypatch.setattr(quantized_forms, "measure_once", measure_once)
    workshop = Workshop(model, tmp_path, calibrate=None, num_threads=2)
    assert workshop.seconds_in("stentor", workshop.plain_folder, "int8") == 0.25
    (request,) = asked
    assert request.work.positions[0] + request.work.num_new_tokens <= 64
    assert (request.setting.engine, request.setting.dtype, request.setting.num_threads) == ("stentor", "int8", 2)
