"""The reference's layout: written as it is read, misread by stock transformers, repaired by an export of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import stentor.export.reference as reference
from stentor.artifacts import verify_directory
from stentor.errors import UserError
from stentor.export.huggingface import export_huggingface
from stentor.export.reference import export_reference
from stentor.model.folder import read_model_folder, write_model_folder

WEIGHTS = "model.safetensors"
SEVEN = ["mlp.down", "mlp.gate", "mlp.up", "self_attn.k", "self_attn.o", "self_attn.q", "self_attn.v"]
MASTERS = [f"model.layers.{layer}.{name}_proj" for layer in range(2) for name in SEVEN]


@pytest.fixture
def written(models, tmp_path):
    """Return the folder of the llama in the reference's layout."""
    export_reference(models["llama"], tmp_path / "reference")
    return tmp_path / "reference"


@pytest.mark.parametrize("name", ["llama", "untied"])
def test_block_projections_are_float32_masters_and_all_else_is_a_plain_llama(models, tmp_path, name):
    folder = tmp_path / "reference"
    report = export_reference(models[name], folder)
    stored, original = load_file(folder / WEIGHTS), load_file(models[name] / WEIGHTS)
    assert sorted(key for key in stored if "weight_master" in key) == [f"{name}.weight_master" for name in MASTERS]
    assert {key.replace("weight_master", "weight") for key in stored} == original.keys()
    assert all(torch.equal(tensor, original[key.replace("_master", "")]) for key, tensor in stored.items())
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["torch_dtype"]) == (["LlamaForCausalLM"], "float32")
    for file in ("config.json", "tokenizer.json"):
        assert (folder / file).read_bytes() == (models[name] / file).read_bytes()
    manifest = verify_directory(folder, kind="model")
    assert manifest.details["export"] == json.loads(json.dumps(report.to_dict()))


def test_the_proof_is_our_own_reader_and_finds_no_difference(models, tmp_path):
    report = export_reference(models["llama"], tmp_path / "reference")
    proof = report.proof
    assert proof is not None
    assert proof.consumer.startswith("Stentor ")
    assert (proof.num_strings, proof.num_positions) == (300, 64)
    assert (proof.stored.max_logit_difference, proof.original.max_kl_nats) == (0.0, 0.0)
    assert (report.format, report.dtype, report.to_dict()["verified"]) == ("reference", "float32", True)


def test_it_is_read_to_the_bit(models, written):
    original, read = read_model_folder(models["llama"]), read_model_folder(written)
    assert read.config == original.config
    assert read.tensors.keys() == original.tensors.keys()
    assert all(torch.equal(read.tensors[key], tensor) for key, tensor in original.tensors.items())


def stock(folder) -> tuple[Any, Any]:
    """Open a folder as any user of transformers would; return the model and the loading report."""
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    return loaded


@pytest.mark.usefixtures("in_process")
def test_stock_transformers_misreads_it_and_an_export_repairs_it(models, written, tmp_path):
    """The documented bug: random projections, reported in a warning only."""
    misread, report = stock(written)
    assert sorted(report["missing_keys"]) == [f"{name}.weight" for name in MASTERS]
    stored = load_file(written / WEIGHTS)
    for key, tensor in misread.state_dict().items():
        is_master = key.removesuffix(".weight") in MASTERS
        kept = stored[f"{key}_master" if is_master else key.replace("lm_head", "model.embed_tokens")]
        assert torch.equal(tensor, kept) is not is_master, key
    export_huggingface(written, tmp_path / "repaired")
    repaired, report = stock(tmp_path / "repaired")
    assert not any(report.values())
    original, _ = stock(models["llama"])
    assert all(torch.equal(tensor, original.state_dict()[key]) for key, tensor in repaired.state_dict().items())
    for path in models["llama"].iterdir():
        if path.name != "manifest.json":
            assert path.read_bytes() == (tmp_path / "repaired" / path.name).read_bytes(), path.name


def test_there_and_back_again_gives_the_same_files(written, tmp_path):
    export_reference(written, tmp_path / "again" / "reference")
    for path in written.iterdir():
        if path.name != "manifest.json":
            assert path.read_bytes() == (tmp_path / "again" / "reference" / path.name).read_bytes(), path.name


def test_the_readmes_program_opens_it_whole(models, written, monkeypatch):
    monkeypatch.chdir(written.parent)
    program = (written / "README.md").read_text().split("```python\n")[1].split("```")[0]
    scope: dict[str, Any] = {}
    exec(program, scope)
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        expected = stock(models["llama"])[0].eval()(ids).logits
        assert torch.equal(scope["model"].eval()(ids).logits, expected)


@pytest.mark.usefixtures("in_process")
def test_a_tokenmonster_vocabulary_lies_beside_the_weights(monster_models, tmp_path):
    original, folder = monster_models["llama"], tmp_path / "reference"
    proof = export_reference(original, folder).proof
    assert proof is not None
    assert proof.num_strings == 300
    assert not (folder / "tokenizer.json").exists()
    assert (folder / "tokenmonster.vocab").read_bytes() == (original / "tokenmonster.vocab").read_bytes()
    export_huggingface(folder, tmp_path / "repaired")
    assert (tmp_path / "repaired" / WEIGHTS).read_bytes() == (original / WEIGHTS).read_bytes()
    assert "import stentor.hf" in (tmp_path / "repaired" / "README.md").read_text()


def test_a_tied_head_beside_the_embedding_is_left_out(models, tmp_path):
    """Other programs store both; transformers removes the duplicate, as the reference's card says."""
    folder = tmp_path / "both"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((models["llama"] / name).read_bytes())
    tensors = load_file(models["llama"] / WEIGHTS)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, folder / WEIGHTS)
    export_reference(folder, tmp_path / "reference")
    assert "lm_head.weight" not in load_file(tmp_path / "reference" / WEIGHTS)


def test_negative_zeros_are_kept_to_the_bit(models, tmp_path):
    tensors = read_model_folder(models["llama"]).tensors
    tensors["model.layers.0.mlp.up_proj.weight"][0, :3] = -0.0
    folder = tmp_path / "zeros"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((models["llama"] / name).read_bytes())
    save_file(tensors, folder / WEIGHTS)
    export_reference(folder, tmp_path / "reference")
    stored = load_file(tmp_path / "reference" / WEIGHTS)["model.layers.0.mlp.up_proj.weight_master"]
    assert torch.signbit(stored[0, :3]).all()


# --- what is refused ---


def test_a_model_whose_tensors_the_layout_cannot_name_is_refused_in_a_sentence(models, tmp_path):
    with pytest.raises(UserError, match="is a qwen3 model, and the reference's layout") as caught:
        export_reference(models["qwen3"], tmp_path / "reference")
    assert "\n" not in caught.value.message
    assert "--to huggingface" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def altered(change):
    """Return a folder writer that stores something other than it was given."""

    def write(staging, config, tensors, tokenizer, *, renamed):
        write_model_folder(staging, config, change(dict(tensors)), tokenizer, renamed=renamed)

    return write


def off_by_a_bit(tensors):
    name = "model.layers.1.self_attn.o_proj.weight"
    tensors[name] = tensors[name].clone()
    tensors[name].view(torch.int32)[0, 0] ^= 1
    return tensors


def test_a_folder_off_by_one_bit_is_refused_and_nothing_is_left(models, tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "write_model_folder", altered(off_by_a_bit))
    with pytest.raises(UserError, match=r"layers\.1\.self_attn\.o_proj\.weight is not read back as it was written"):
        export_reference(models["llama"], tmp_path / "reference")
    assert list(tmp_path.iterdir()) == []


def test_a_master_that_is_missing_is_refused_and_nothing_is_left(models, tmp_path, monkeypatch):
    def renamed(tensors):
        return {name: tensor for name, tensor in tensors.items() if "layers.1.mlp.up" not in name}

    monkeypatch.setattr(reference, "to_reference", renamed)
    with pytest.raises(UserError, match=r"missing model\.layers\.1\.mlp\.up_proj\.weight"):
        export_reference(models["llama"], tmp_path / "reference")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_refused_before_any_work_and_replaced_when_asked(models, written, monkeypatch):
    export_reference(models["untied"], written, replace=True)
    assert "lm_head.weight" in load_file(written / WEIGHTS)
    monkeypatch.setattr(reference, "read_source", lambda *_, **__: pytest.fail("the model was read"))
    with pytest.raises(UserError, match="already exists"):
        export_reference(models["llama"], written)
