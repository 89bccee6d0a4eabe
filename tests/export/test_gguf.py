from __future__ import annotations

import importlib.util
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from gguf import GGUFReader

import stentor.export.gguf as gguf_module
from stentor.artifacts import write_file
from stentor.errors import MissingDependencyError, UserError
from stentor.export import consumer, gguf_file, source
from stentor.export.gguf import export_gguf
from stentor.export.mapped import sample_pieces
from stentor.export.rwkv import rwkv_vocabulary
from stentor.model.folder import read_model_folder, write_model_folder
from stentor.tokenizer.bpe import train_bpe
from stentor.tokenizer.probes import mixed_strings

real_write = gguf_file.write_gguf


@pytest.mark.parametrize("dtype", ["float32", "float16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "untied"])
def test_llama_cpp_agrees(models, tmp_path, tokenizer, name, dtype):
    destination = tmp_path / "model.gguf"
    report = export_gguf(models[name], destination, dtype=dtype)
    proof = report.proof
    assert proof is not None
    assert report.size_bytes == destination.stat().st_size
    assert proof.num_strings == source.NUM_STRINGS
    assert proof.num_tokens == tokenizer.vocab_size
    assert proof.num_positions == source.NUM_POSITIONS
    # Beside blocks with minima llama.cpp also rounds the sums of activations, which our side of the proof does not.
    assert proof.stored.mean_kl_nats < (1e-3 if dtype.endswith("_1") else 1e-4)
    if dtype == "float32":
        assert proof.original.max_kl_nats < 1e-8
        assert proof.original.max_logit_difference < 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_q8_0_is_proven_with_llama_cpps_own_rounding(models, tmp_path):
    proof = export_gguf(models["qwen3"], tmp_path / "model.gguf", dtype="q8_0").proof
    assert proof is not None
    assert proof.stored.mean_kl_nats < proof.original.mean_kl_nats / 10


def test_exports_are_the_same_bytes_every_time(models, tmp_path):
    first, second = tmp_path / "a" / "m.gguf", tmp_path / "b" / "m.gguf"
    export_gguf(models["llama"], first, dtype="q8_0")
    export_gguf(models["llama"], second, dtype="q8_0")
    assert first.read_bytes() == second.read_bytes()


def with_tensors(alter):
    """Return a writer that stores other weights than it was given."""

    def write(path, config, tensors, tokenizer, **options):
        tensors = dict(tensors)
        alter(tensors)
        real_write(path, config, tensors, tokenizer, **options)

    return write


def swap_gate_and_up(tensors):
    gate, up = "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight"
    tensors[gate], tensors[up] = tensors[up], tensors[gate]


def swap_layers(tensors):
    first, second = "model.layers.0.self_attn.v_proj.weight", "model.layers.1.self_attn.v_proj.weight"
    tensors[first], tensors[second] = tensors[second], tensors[first]


def shift_a_norm(tensors):
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * np.float32(1.1)


def drop_a_tensor(tensors):
    del tensors["model.layers.1.self_attn.o_proj.weight"]


def fill_with_nan(tensors):
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * np.float32("nan")


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (swap_gate_and_up, "the mean KL in nats is"),
        (swap_layers, "the mean KL in nats is"),
        (shift_a_norm, "the mean KL in nats is"),
        (drop_a_tensor, r"llama\.cpp could not use the export .*blk\.1\.attn_output\.weight"),
        (fill_with_nan, r"llama\.cpp"),
    ],
)
def test_wrong_weights_are_refused_and_nothing_is_left(models, tmp_path, monkeypatch, alter, message):
    monkeypatch.setattr(gguf_module, "write_gguf", with_tensors(alter))
    with pytest.raises(UserError, match=message):
        export_gguf(models["llama"], tmp_path / "model.gguf", dtype="q8_0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_a_wrong_permutation_is_refused(models, tmp_path, monkeypatch, name):
    permute = gguf_file._interleaved
    wrong = (lambda _, values, config: values) if name == "llama" else permute
    monkeypatch.setattr(gguf_file, "_interleaved", wrong)
    if name == "qwen3":
        monkeypatch.setattr(
            gguf_module,
            "write_gguf",
            lambda path, config, tensors, *rest, **options: real_write(
                path,
                config,
                {key: permute(key, value, replace(config, carrier="llama")) for key, value in tensors.items()},
                *rest,
                **options,
            ),
        )
    with pytest.raises(UserError, match="the mean KL in nats is"):
        export_gguf(models[name], tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


def test_wrong_sizes_are_refused(models, tmp_path, monkeypatch):
    def write(path, config, *rest, **options):
        real_write(path, replace(config, rope_theta=10_000.0), *rest, **options)

    monkeypatch.setattr(gguf_module, "write_gguf", write)
    with pytest.raises(UserError, match="the mean KL in nats is"):
        export_gguf(models["llama"], tmp_path / "model.gguf")


def test_another_tokenizer_is_refused(models, tmp_path, monkeypatch):
    other = train_bpe(mixed_strings(100, seed=2), vocab_size=300)

    def write(path, config, tensors, tokenizer, **options):
        real_write(path, config, tensors, other, **options)

    monkeypatch.setattr(gguf_module, "write_gguf", write)
    with pytest.raises(UserError, match=r"gives other token ids for \d+ of 300 strings, the first being"):
        export_gguf(models["llama"], tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_token_with_other_bytes_is_refused(tokenizer):
    ours = [tokenizer.token_bytes(index) for index in range(tokenizer.vocab_size)]
    theirs = {str(index): token.hex() for index, token in enumerate(ours)}
    gguf_module._require_equal_bytes(ours, theirs, consumer="llama.cpp")
    theirs["400"] = b"zz".hex()
    with pytest.raises(UserError, match=r"llama\.cpp reads token 400 as b'zz', not"):
        gguf_module._require_equal_bytes(ours, theirs, consumer="llama.cpp")


def test_a_crash_of_llama_cpp_is_one_sentence(models, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_module, "ask", lambda program, *rest, **options: consumer.ask("this", *rest, **options))
    real_run = consumer.subprocess.run

    def killed(arguments, **options):
        return real_run([*arguments[:1], "-c", "import os; os.kill(os.getpid(), 11)"], **options)

    monkeypatch.setattr(consumer.subprocess, "run", killed)
    with pytest.raises(UserError, match=f"exit status -{int(signal.SIGSEGV)}"):
        export_gguf(models["llama"], tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_refused_and_kept(models, tmp_path, monkeypatch):
    destination = tmp_path / "model.gguf"
    destination.write_bytes(b"precious")
    with pytest.raises(UserError, match="already exists"):
        export_gguf(models["llama"], destination)
    monkeypatch.setattr(gguf_module, "write_gguf", with_tensors(swap_layers))
    with pytest.raises(UserError, match="KL"):
        export_gguf(models["llama"], destination, replace=True)
    assert destination.read_bytes() == b"precious"
    monkeypatch.undo()
    monkeypatch.setattr(source, "NUM_STRINGS", 10)
    assert export_gguf(models["llama"], destination, replace=True).proof is not None


def test_without_a_consumer_only_an_unverified_export_is_kept(models, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "xllamacpp" else find_spec(name))
    destination = tmp_path / "model.gguf"
    with pytest.raises(MissingDependencyError, match="xllamacpp") as caught:
        export_gguf(models["llama"], destination)
    assert caught.value.exit_code == 4
    assert not destination.exists()
    report = export_gguf(models["llama"], destination, unverified=True)
    assert report.to_dict()["verified"] is False
    assert destination.read_bytes()[:4] == b"GGUF"


def test_bad_arguments_are_refused(models, tmp_path):
    with pytest.raises(UserError, match="did you mean 'float16'"):
        export_gguf(models["llama"], tmp_path / "model.gguf", dtype="bfloat16")
    with pytest.raises(UserError, match=r"not named \.gguf"):
        export_gguf(models["llama"], tmp_path / "model.bin")
    with pytest.raises(UserError, match="no model"):
        export_gguf(tmp_path / "absent", tmp_path / "model.gguf")


def test_weights_beyond_float16_are_refused(models, tmp_path):
    from stentor.artifacts import staged_directory

    folder = read_model_folder(models["llama"])
    tensors = {**folder.tensors, "model.embed_tokens.weight": folder.tensors["model.embed_tokens.weight"] * 1e6}
    with staged_directory(tmp_path / "large", kind="model") as staging:
        write_model_folder(staging, folder.config, tensors, folder.tokenizer)
    with pytest.raises(UserError, match=r"model\.embed_tokens\.weight holds .* beyond float16's 65504"):
        export_gguf(tmp_path / "large", tmp_path / "model.gguf", dtype="float16")
    assert torch.isfinite(tensors["model.embed_tokens.weight"]).all()


@pytest.mark.slow
def test_ten_thousand_strings(models, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "NUM_STRINGS", 10_000)
    proof = export_gguf(models["llama"], tmp_path / "model.gguf", dtype="q8_0").proof
    assert proof is not None
    assert proof.num_strings == 10_000


def test_a_folder_in_the_way_is_refused_even_with_replace(models, tmp_path):
    (tmp_path / "model.gguf").mkdir()
    with pytest.raises(UserError, match="is a folder; it is kept"):
        export_gguf(models["llama"], tmp_path / "model.gguf", replace=True)


def test_llama_cpp_writes_text_from_the_export(models, tmp_path):
    """Generation in a process of its own, as a user of llama.cpp would."""
    import subprocess
    import sys

    program = (
        "import sys, xllamacpp\n"
        "p = xllamacpp.CommonParams(); p.model.path = sys.argv[1]; p.n_ctx = 128; p.verbosity = 0\n"
        "p.cpuparams.n_threads = 1; p.warmup = False\n"
        "body = {'prompt': 'Rivers carry', 'max_tokens': 12, 'temperature': 0}\n"
        "out = xllamacpp.Server(p).handle_completions(body)\n"
        "print(out['usage']['prompt_tokens'], out['usage']['completion_tokens'])\n"
    )
    path = tmp_path / "model.gguf"
    export_gguf(models["qwen3"], path, dtype="q8_0")
    result = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    prompt_tokens, completion_tokens = map(int, result.stdout.split())
    assert prompt_tokens == len(read_model_folder(models["qwen3"]).require_tokenizer().encode("Rivers carry"))
    assert 1 <= completion_tokens <= 12


# --- a tokenizer that llama.cpp does not have ---


@pytest.fixture
def sample(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "sample.txt"
    write_file(path, "The people of THIS world have not been here, and he SAID so in a caf\u00e9. " * 40)
    return str(path)


@pytest.mark.parametrize(("name", "dtype"), [("llama", "float16"), ("qwen3", "float32"), ("llama", "q8_0")])
def test_llama_cpp_does_what_the_mapping_says(monster_models, tmp_path, tiny_tokenmonster, sample, name, dtype):
    destination = tmp_path / "model.gguf"
    report = export_gguf(monster_models[name], destination, dtype=dtype, compare=sample)
    proof, cost = report.proof, report.mapped_tokenizer
    assert proof is not None
    assert cost is not None
    assert proof.num_strings == 2 * (source.NUM_STRINGS + len(sample_pieces(sample)))
    assert proof.num_tokens == tiny_tokenmonster.vocab_size
    assert proof.stored.mean_kl_nats < 1e-4
    assert 0 < cost.raw.similarity < cost.prepared.similarity < 1
    assert report.to_dict()["mapped_tokenizer"]["raw"]["bits_per_byte"] == cost.raw.bits_per_byte
    reader = GGUFReader(destination)
    fields = {key: reader.get_field(key) for key in cost.to_metadata()}
    stored = {key: field.contents() for key, field in fields.items() if field is not None}
    assert stored == {k: pytest.approx(v) if isinstance(v, float) else v for k, v in cost.to_metadata().items()}
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_a_mapped_export_is_the_same_bytes_every_time(monster_models, tmp_path, sample):
    first, second = tmp_path / "a" / "m.gguf", tmp_path / "b" / "m.gguf"
    for destination in (first, second):
        export_gguf(monster_models["llama"], destination, compare=sample)
    assert first.read_bytes() == second.read_bytes()


def test_ids_other_than_the_mappings_are_refused(monster_models, tmp_path, monkeypatch, sample):
    def longer(tokenizer, num_rows):
        mapped = rwkv_vocabulary(tokenizer, num_rows)
        row = mapped.token_bytes.index(b" the")
        return replace(mapped, token_bytes=[*mapped.token_bytes[:row], b" tha", *mapped.token_bytes[row + 1 :]])

    def write(path, config, tensors, tokenizer, **options):
        _, metadata = options.pop("mapped")
        mapped = (rwkv_vocabulary(tokenizer, config.vocab_size), metadata)
        real_write(path, config, tensors, tokenizer, mapped=mapped, **options)

    monkeypatch.setattr(gguf_module, "rwkv_vocabulary", longer)
    monkeypatch.setattr(gguf_module, "write_gguf", write)
    with pytest.raises(UserError, match=r"gives other token ids for \d+ of \d+ strings"):
        export_gguf(monster_models["llama"], tmp_path / "model.gguf", compare=sample)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_mapping_on_which_llama_cpp_hangs_is_refused(monster_models, tmp_path, monkeypatch, sample):
    """A byte that begins a token and is none: llama.cpp starts again from the beginning, for ever."""

    def write(path, config, tensors, tokenizer, **options):
        vocabulary, metadata = options.pop("mapped")
        row = vocabulary.token_bytes.index(b"(")
        broken = [*vocabulary.token_bytes[:row], b"(((((", *vocabulary.token_bytes[row + 1 :]]
        real_write(
            path, config, tensors, tokenizer, mapped=(replace(vocabulary, token_bytes=broken), metadata), **options
        )

    monkeypatch.setattr(gguf_module, "write_gguf", write)
    with pytest.raises(UserError, match=r"could not use the export .* found no end in the token ids of"):
        export_gguf(monster_models["llama"], tmp_path / "model.gguf", compare=sample)
    assert list(tmp_path.iterdir()) == []


def test_an_unverified_mapping_still_says_what_it_costs(monster_models, tmp_path, monkeypatch, sample):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "xllamacpp" else find_spec(name))
    report = export_gguf(monster_models["llama"], tmp_path / "m.gguf", compare=sample, unverified=True)
    assert report.proof is None
    assert report.mapped_tokenizer is not None


def test_what_is_carried_exactly_has_nothing_to_compare(models, tmp_path):
    with pytest.raises(UserError, match="nothing to compare"):
        export_gguf(models["llama"], tmp_path / "model.gguf", compare="builtin:docs")
    assert list(tmp_path.iterdir()) == []
