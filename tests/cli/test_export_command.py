from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch

from stentor.artifacts import staged_directory, verify_directory, write_file
from stentor.cli.main import main
from stentor.export import gguf, huggingface, onnx, reference, source
from stentor.export.parity import Agreement, ExportReport, MappedTokenizer, Proof, Segmentation, Variant
from stentor.model.config import ModelConfig
from stentor.model.folder import write_model_folder
from stentor.model.names import expected_shapes
from stentor.tokenizer.bpe import train_bpe
from stentor.tokenizer.probes import mixed_strings


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs the command line and gives its exit code, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["stentor", "export", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    tokenizer = train_bpe(mixed_strings(200, seed=3), vocab_size=380)
    config = ModelConfig(
        vocab_size=384,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=64,
    )
    generator = torch.Generator().manual_seed(0)
    tensors = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in expected_shapes(config).items()}
    folder = tmp_path_factory.mktemp("cli") / "model"
    with staged_directory(folder, kind="model") as staging:
        write_model_folder(staging, config, tensors, tokenizer)
    return folder


@pytest.fixture
def called(monkeypatch):
    """Stand in for the exports and note how they are called."""
    calls = []
    agreement = Agreement(0.25, 1e-7, 2e-6)
    proof = Proof(
        consumer="a consumer 1.0",
        num_strings=10_000,
        num_tokens=380,
        num_positions=64,
        stored=agreement,
        original=agreement,
    )

    def stand_in(format_name):
        def export(model, output, **options):
            calls.append((format_name, model, str(output), options))
            proven = None if options.get("unverified") else proof
            dtype = options.get("dtype", "float32")
            return ExportReport(path=str(output), format=format_name, dtype=dtype, size_bytes=1_234_567, proof=proven)

        return export

    monkeypatch.setattr(gguf, "export_gguf", stand_in("gguf"))
    monkeypatch.setattr(huggingface, "export_huggingface", stand_in("huggingface"))
    monkeypatch.setattr(onnx, "export_onnx", stand_in("onnx"))
    monkeypatch.setattr(reference, "export_reference", stand_in("reference"))
    return calls


def test_a_real_export_prints_what_was_proven(run, model, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "NUM_STRINGS", 50)
    code, out, err = run(model, tmp_path / "m.gguf", "--to", "gguf", "--dtype", "q8_0", "--json")
    assert code == 0, err
    body = json.loads(out)
    assert body["verified"] is True
    assert body["proof"]["num_strings"] == 50
    assert body["size_bytes"] == (tmp_path / "m.gguf").stat().st_size
    assert "opening it in llama.cpp" in err


def test_text_names_the_numbers(run, called):
    code, out, _ = run("run", "m.gguf", "--to", "gguf")
    assert code == 0
    assert called == [
        (
            "gguf",
            "run",
            "m.gguf",
            {"dtype": "float16", "replace": False, "unverified": False, "compare": None, "calibrate": None},
        )
    ]
    assert "m.gguf: gguf, float16, 1.2 MB" in out
    assert "proven in a consumer 1.0" in out
    assert "token ids equal on 10,000 mixed strings, bytes of 380 tokens equal" in out
    assert "64 positions: largest logit difference 0.25, mean KL 1e-07 nats" in out
    assert "cost of float16 against the original: mean KL 1e-07 nats, largest 2e-06" in out


def test_options_reach_the_export(run, called):
    code, out, _ = run("m", "o", "--to", "huggingface", "--dtype", "bfloat16", "--force", "--unverified")
    assert code == 0
    assert called == [("huggingface", "m", "o", {"dtype": "bfloat16", "replace": True, "unverified": True})]
    assert "unverified: no consumer was installed to prove it" in out


def test_smaller_forms_and_remarks_are_told(run, called, monkeypatch):
    variant = Variant(
        path="o/onnx/q.onnx", dtype="dynamic INT8", size_bytes=345_000, original=Agreement(0.5, 0.006, 0.055)
    )
    plain = onnx.export_onnx

    def export(*arguments, **options):
        return replace(plain(*arguments, **options), variants=(variant,), remark="NOT for one thing")

    monkeypatch.setattr(onnx, "export_onnx", export)
    _, out, err = run("m", "o", "--to", "onnx")
    assert called == [("onnx", "m", "o", {"replace": False})]
    assert "opening it in onnxruntime" in err
    assert "with o/onnx/q.onnx: dynamic INT8, 345.0 kB" in out
    assert "cost of dynamic INT8 against the original: mean KL 0.006 nats, largest 0.055" in out
    assert out.endswith("NOT for one thing\n")
    _, out, _ = run("m", "o", "--to", "onnx", "--json")
    assert json.loads(out)["variants"][0]["size_bytes"] == 345_000


def test_default_dtype_of_a_folder_is_float32(run, called):
    run("m", "o", "--to", "huggingface")
    assert called[0][3]["dtype"] == "float32"


def test_a_mapped_tokenizer_is_never_called_equal(run, called, monkeypatch):
    mapped = MappedTokenizer(
        kind="rwkv",
        sample="a text",
        num_bytes=50_000,
        num_strings=10_000,
        bits_per_byte=1.5,
        raw=Segmentation(0.08, 0.55, 2.25),
        prepared=Segmentation(0.125, 0.75, 1.75),
    )
    plain = gguf.export_gguf

    def export(*arguments, **options):
        return replace(plain(*arguments, **options), mapped_tokenizer=mapped)

    monkeypatch.setattr(gguf, "export_gguf", export)
    for flags in ([], ["--unverified"]):
        _, out, _ = run("run", "m.gguf", "--to", "gguf", "--compare", "a text", *flags)
        assert called[-1][3]["compare"] == "a text"
        assert "ids equal" not in out
        assert "NOT the model's own token ids" in out
        assert "its rwkv tokenizer" in out
        assert "50.0 kB of a text, with its own ids: 1.500 bits per byte" in out
        assert (
            "text as it is typed: similarity of ids 55.0%, 8.0% of 10,000 mixed strings equal, 2.250 bits per byte"
            in out
        )
        assert "text prepared by Stentor: similarity of ids 75.0%" in out


def test_the_reference_layout_takes_no_choices(run, called):
    code, out, err = run("m", "o", "--to", "reference", "--force")
    assert code == 0
    assert called == [("reference", "m", "o", {"replace": True})]
    assert "writing o and reading it back" in err
    assert "o: reference, float32, 1.2 MB" in out


def test_a_real_export_in_the_reference_layout(run, model, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "NUM_STRINGS", 50)
    code, out, err = run(model, tmp_path / "layout", "--to", "reference")
    assert code == 0, err
    assert "proven in Stentor" in out
    assert "reads every tensor back to the bit" in out
    assert "same weights, 63 positions: largest logit difference 0, mean KL 0 nats" in out
    verify_directory(tmp_path / "layout", kind="model")


@pytest.mark.parametrize("to", ["huggingface", "reference"])
def test_a_folder_carries_its_tokenizer_so_there_is_nothing_to_compare(run, called, to):
    code, out, err = run("m", "o", "--to", to, "--compare", "a text")
    assert (code, out, called) == (2, "", [])
    assert "--compare is for --to gguf" in err


@pytest.mark.parametrize(("to", "dtype"), [("huggingface", "q8_0"), ("gguf", "bfloat16"), ("reference", "float16")])
def test_a_dtype_the_format_does_not_store_is_a_usage_error(run, called, to, dtype):
    code, out, err = run("m", "o", "--to", to, "--dtype", dtype)
    assert code == 2
    assert out == ""
    assert f"--to {to} does not store {dtype}" in err
    assert "choose --dtype from" in err
    assert called == []


@pytest.mark.parametrize("dtype", ["q5_0", "q4_0"])
def test_a_text_to_calibrate_on_reaches_the_export(run, called, dtype):
    assert run("m", "m.gguf", "--to", "gguf", "--dtype", dtype, "--calibrate", "a text")[0] == 0
    assert called[0][3]["calibrate"] == "a text"


@pytest.mark.parametrize("options", [("gguf", "q8_0"), ("gguf", "q4_k_m"), ("huggingface", "float16")])
def test_a_dtype_that_is_not_calibrated_is_a_usage_error(run, called, options):
    to, dtype = options
    code, out, err = run("m", "o", "--to", to, "--dtype", dtype, "--calibrate", "a text")
    assert (code, out, called) == (2, "", [])
    assert "--calibrate is for --to gguf with --dtype q5_0 or q4_0" in err


def test_an_output_without_a_format_is_a_usage_error(run, called):
    code, out, err = run("m", "m.gguf")
    assert (code, out, called) == (2, "", [])
    assert "the format is missing" in err
    assert "--to gguf" in err


@pytest.mark.parametrize("options", [(), ("--to", "gguf", "--compare", "t"), ("--dtype", "q4_0", "--compare", "t")])
def test_no_output_needs_a_text_to_compare_on_and_nothing_else(run, called, options):
    code, out, err = run("m", *options)
    assert (code, out, called) == (2, "", [])
    assert "--compare TEXT" in err


def test_all_forms_are_compared_on_a_text(run, model, tmp_path, monkeypatch):
    from stentor.bench import quantization, quantized_forms

    monkeypatch.setattr(quantized_forms.Workshop, "seconds_in", lambda *_: 0.001)
    monkeypatch.setattr(quantization.compare_forms, "__kwdefaults__", {
        **(quantization.compare_forms.__kwdefaults__ or {}),
        "num_tokens": 40,
        "forms": [form for form in quantized_forms.FORMS if form.name in ("float32", "gguf q8_0", "gguf q4_k_m")],
    })  # fmt: skip
    text = tmp_path / "t.txt"
    write_file(text, "One way to cross a river is to wait for the winter. " * 20)
    code, out, err = run(model, "--compare", text)
    assert code == 0, err
    assert "measuring gguf q8_0" in err
    assert "bits/byte" in out
    assert "gguf q8_0" in out
    assert "not measured: gguf q4_k_m: q4_k_m stores 256 weights of a row together" in out
    code, out, _ = run(model, "--compare", text, "--json")
    body = json.loads(out)
    assert [row["form"] for row in body["rows"]] == ["float32", "gguf q8_0"]
    assert body["model"] == str(model)
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"], "nothing is kept"


def test_an_unknown_format_is_a_usage_error(run):
    code, _, err = run("m", "o", "--to", "onyx")
    assert code == 2
    assert "onyx" in err


def test_an_output_that_exists_is_refused_with_exit_code_3(run, model, tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"precious")
    code, out, err = run(model, tmp_path / "m.gguf", "--to", "gguf")
    assert (code, out) == (3, "")
    assert "already exists" in err
    assert "Traceback" not in err
    assert (tmp_path / "m.gguf").read_bytes() == b"precious"


def test_a_model_that_is_none_is_refused_with_exit_code_3(run, tmp_path):
    code, _, err = run(tmp_path / "absent", tmp_path / "out", "--to", "huggingface")
    assert code == 3
    assert "no model" in err


def test_a_missing_consumer_is_exit_code_4(run, model, tmp_path, monkeypatch):
    import importlib.util

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else find_spec(name))
    code, _, err = run(model, tmp_path / "out", "--to", "huggingface")
    assert code == 4
    assert "--unverified" in err
    code, out, _ = run(model, tmp_path / "out", "--to", "huggingface", "--unverified")
    assert code == 0
    assert "unverified" in out
    verify_directory(tmp_path / "out", kind="model")
