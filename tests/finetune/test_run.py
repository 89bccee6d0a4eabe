"""The whole of it: a folder whose two halves open in stock programs and agree, or no folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from stentor.artifacts import verify_directory
from stentor.errors import MissingDependencyError, UserError
from stentor.evaluate.text import evaluate
from stentor.finetune import run
from stentor.finetune.run import finetune
from stentor.finetune.settings import FinetuneSettings
from stentor.model.folder import read_model_folder
from stentor.text.corpus import prepare_corpus

QUICK = FinetuneSettings(rank=8, epochs=1.0, lr=3e-2, batch=8, validation="take:4")


@contextlib.contextmanager
def unwatched(label):
    yield lambda *_: None


def tuned(model, text, out, settings=QUICK, **options):
    return finetune(model, text, out, settings, watch=unwatched, on_step=lambda _: None, **{"device": "cpu", **options})


@pytest.fixture(scope="module")
def world(model_dir, text, tmp_path_factory, prose_documents):
    """Return a finished fine-tuning: its folder, its report, and the text that was to be kept."""
    folder = tmp_path_factory.mktemp("tuned")
    keep = folder / "keep.txt"
    keep.write_text("\n\n".join(prose_documents(6)).upper())
    report = tuned(model_dir, text, folder / "out", keep=str(keep))
    return folder / "out", report, keep


def test_the_text_is_learned_and_both_texts_are_measured(world, model_dir, text, tmp_path):
    folder, report, keep = world
    assert report.held_out.after.bits_per_byte < report.held_out.before.bits_per_byte - 0.05
    assert report.kept.before == evaluate_alike(model_dir, [keep.read_text()])
    assert report.kept.after == evaluate_alike(folder / "merged", [keep.read_text()])
    config = run.TextConfig(source=text, validation=QUICK.validation, min_characters=1)
    held_out = [document.text for document in prepare_corpus(config, tmp_path / "corpus").documents("validation")]
    assert report.held_out.after == evaluate_alike(folder / "merged", held_out)


def evaluate_alike(model, texts) -> Near:
    """Return our engine's measure; its sums are rounded otherwise than torch's."""
    return Near(evaluate(model, texts))


class Near:
    """Equal to an evaluation but for rounding."""

    def __init__(self, evaluation) -> None:
        self._evaluation = evaluation

    def __eq__(self, other) -> bool:
        mine, theirs = dataclasses.asdict(self._evaluation), dataclasses.asdict(other)
        return all(mine[name] == pytest.approx(theirs[name], rel=1e-4) for name in mine)

    def __hash__(self) -> int:
        return hash(self._evaluation)


def test_the_folder_is_sealed_with_its_report(world):
    folder, report, _ = world
    manifest = verify_directory(folder, kind="finetune")
    assert manifest.details == json.loads(json.dumps(report.to_dict()))
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors", "merged/model.safetensors"} <= set(
        manifest.files
    )
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert len(lines) == report.num_steps
    assert all(line["loss_nats"] > 0 for line in lines)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks for it
def test_peft_and_transformers_open_both_halves_and_agree(world, model_dir, tiny_tokenizer):
    folder, _, _ = world
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_dir), str(folder / "adapter")).eval()
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder / "merged", output_loading_info=True)
    whole, loading = loaded
    assert not any(loading.values())
    ids = torch.tensor([tiny_tokenizer.encode("The people who were there")])
    assert AutoTokenizer.from_pretrained(folder / "merged")("The people who were there")["input_ids"] == ids[0].tolist()
    with torch.inference_mode():
        torch.testing.assert_close(theirs(input_ids=ids).logits, whole.eval()(input_ids=ids).logits, atol=1e-5, rtol=0)


STOCK = """
import sys
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer
import torch
folder = sys.argv[1]
with_adapter = AutoPeftModelForCausalLM.from_pretrained(folder + "/adapter").eval()
merged = AutoModelForCausalLM.from_pretrained(folder + "/merged").eval()
ids = AutoTokenizer.from_pretrained(folder + "/merged")("The people who", return_tensors="pt")["input_ids"]
with torch.inference_mode():
    print(float((with_adapter(input_ids=ids).logits - merged(input_ids=ids).logits).abs().max()))
assert not any(name.partition(".")[0] == "stentor" for name in sys.modules)
"""


@pytest.mark.external
def test_a_process_without_stentor_opens_both_halves(world):
    environment = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "HOME": str(world[0])}
    done = subprocess.run(
        [sys.executable, "-c", STOCK, str(world[0])], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-5


def test_the_same_settings_give_the_same_weights(model_dir, text, tmp_path):
    settings = dataclasses.replace(QUICK, epochs=0.1)
    for name in ("one", "two"):
        tuned(model_dir, text, tmp_path / name, settings)
    for part in ("adapter/adapter_model.safetensors", "adapter/adapter_config.json", "merged/model.safetensors"):
        assert (tmp_path / "one" / part).read_bytes() == (tmp_path / "two" / part).read_bytes()


def test_a_tokenmonster_model_keeps_its_vocabulary(write_model, tiny_config, tiny_tokenmonster, text, tmp_path):
    model = write_model(tmp_path / "model", tiny_config, tiny_tokenmonster)
    report = tuned(model, text, tmp_path / "out", dataclasses.replace(QUICK, epochs=0.1))
    assert report.held_out.after.bits_per_byte < report.held_out.before.bits_per_byte
    assert (tmp_path / "out" / "merged" / "README.md").read_text().startswith("# out")
    merged = read_model_folder(tmp_path / "out" / "merged")
    assert merged.require_tokenizer().sha256 == tiny_tokenmonster.sha256


@pytest.mark.parametrize("quantize", ["4bit", "8bit"])
def test_quantized_weights_teach_an_adapter_for_the_whole_ones(model_dir, text, tmp_path, quantize):
    report = tuned(model_dir, text, tmp_path / "out", dataclasses.replace(QUICK, quantize=quantize, epochs=0.2))
    assert report.held_out.after.bits_per_byte < report.held_out.before.bits_per_byte
    original, merged = (read_model_folder(path).tensors for path in (model_dir, tmp_path / "out" / "merged"))
    name = "model.embed_tokens.weight"
    assert torch.equal(original[name], merged[name])


def test_an_output_that_exists_is_kept_unless_it_may_be_replaced(model_dir, text, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="out"):
        tuned(model_dir, text, out)
    assert (out / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("documents", "settings", "said"),
    [
        ([], QUICK, "text"),
        ([""], QUICK, "no training document is left"),
        (["A few words."] * 3, QUICK, "no training document is left"),
        (["one thing", "another thing"], dataclasses.replace(QUICK, validation="take:1"), "tokens to train on"),
        (["one", "two"], dataclasses.replace(QUICK, validation="some"), "text.validation is 'some'"),
    ],
)
def test_texts_that_teach_nothing_are_refused(model_dir, write_text, tmp_path, documents, settings, said):
    with pytest.raises(UserError, match=said) as caught:
        tuned(model_dir, write_text(tmp_path / "text.jsonl", documents), tmp_path / "out", settings)
    assert caught.value.fix
    assert not (tmp_path / "out").exists()


def test_a_text_to_keep_that_is_empty_is_refused(model_dir, text, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(UserError):
        tuned(model_dir, text, tmp_path / "out", keep=str(tmp_path / "empty.txt"))


def test_a_model_of_another_kind_is_refused(text, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(UserError):
        tuned(tmp_path / "model", text, tmp_path / "out")


@pytest.mark.parametrize(("device", "kind"), [("tpu", UserError), ("cuda", MissingDependencyError)])
def test_devices_that_are_not_there(model_dir, text, tmp_path, monkeypatch, device, kind):
    monkeypatch.setattr(run, "pick_device", lambda: torch.device("cpu"))
    with pytest.raises(kind, match=device):
        tuned(model_dir, text, tmp_path / "out", device=device)


@pytest.mark.parametrize("moment", ["train_adapter", "save_adapter", "prove"])
def test_ctrl_c_leaves_nothing_behind(model_dir, text, tmp_path, monkeypatch, moment):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, moment, interrupted)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        tuned(model_dir, text, tmp_path / "out", dataclasses.replace(QUICK, epochs=0.1))
    assert list(tmp_path.iterdir()) == []


def test_merged_weights_that_are_another_model_are_not_kept(model_dir, text, tmp_path, monkeypatch):
    merged = run.merged

    def other(opened, config):
        tensors = merged(opened, config)
        return {name: tensor * 1.5 if "down_proj" in name else tensor for name, tensor in tensors.items()}

    monkeypatch.setattr(run, "merged", other)
    with pytest.raises(UserError, match="peft disagrees with the model"):
        tuned(model_dir, text, tmp_path / "out", dataclasses.replace(QUICK, epochs=0.1))
    assert not (tmp_path / "out").exists()


def test_progress_is_told(model_dir, text, tmp_path):
    told, steps = [], []
    finetune(
        model_dir,
        text,
        tmp_path / "out",
        dataclasses.replace(QUICK, epochs=0.1),
        device="cpu",
        watch=unwatched,
        on_step=steps.append,
        on_measure=lambda done, whole: told.append((done, whole)),
    )
    assert [record.step for record in steps] == list(range(1, steps[0].num_steps + 1))
    assert told[-1][0] == told[-1][1]
    assert np.isfinite([record.tokens_per_second for record in steps]).all()
