"""A model as the reference's author saved it, for programs written for that layout; read back before it is kept."""

from __future__ import annotations

from pathlib import Path

import torch

from stentor.artifacts import refuse_existing, staged_directory
from stentor.errors import UserError
from stentor.export.about import README_NAME
from stentor.export.parity import NOT_KEPT, ExportReport, Proof, compare_logits, require_equal_ids
from stentor.export.source import Source, make_question, our_logits, read_source
from stentor.model.config import ModelConfig
from stentor.model.folder import read_model_folder, write_model_folder
from stentor.model.reference_layout import to_reference
from stentor.version import __version__

HOW_TO_OPEN = """# {name}

This folder has the layout of Stentor2-12M-Preview: the block projections are called `weight_master`. Plain
`from_pretrained` does not know that name and fills these layers with random numbers, with no more than a warning.
Rename them on the way in:

```python
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

stored = load_file("{name}/model.safetensors")
tensors = {{key.replace(".weight_master", ".weight"): tensor for key, tensor in stored.items()}}
config = LlamaConfig.from_pretrained("{name}")
model = LlamaForCausalLM.from_pretrained(None, config=config, state_dict=tensors)
```

or make a folder of it that opens as it is: `stentor export {name} FOLDER --to huggingface`.
"""


def export_reference(model: str | Path, destination: Path, *, replace: bool = False) -> ExportReport:
    """Write a model in the reference's checkpoint layout.

    The folder is kept only if our reader gives every tensor back to the bit, and the same ids for 10,000 mixed strings.
    Scales and zero points of the rounding are not written: their names are not known, and the masters decide them.

    Args:
        model: a model folder, a run folder, a .gguf file or a Hub id; a Llama.
        destination: the folder to make.
        replace: an existing destination is replaced; otherwise it is refused.

    Raises:
        UserError: the model cannot be read or is no Llama, the destination exists, or the folder reads otherwise.
    """
    refuse_existing(destination, replace=replace, kind="model")
    source = read_source(model, dtype="float32")
    _require_llama(source.config, model)
    with staged_directory(destination, kind="model", replace=replace) as staging:
        write_model_folder(staging, source.config, source.tensors, source.tokenizer, renamed=to_reference)
        staging.write(README_NAME, source.about.front_matter() + HOW_TO_OPEN.format(name=destination.name))
        report = ExportReport(
            path=str(destination),
            format="reference",
            dtype="float32",
            size_bytes=sum(path.stat().st_size for path in staging.path.iterdir()),
            proof=_prove(source, staging.path),
        )
        staging.details["export"] = report.to_dict()
    return report


def _require_llama(config: ModelConfig, model: str | Path) -> None:
    if config.carrier != "llama":
        raise UserError(
            f"{model} is a {config.carrier} model, and the reference's layout names a llama model's tensors only",
            fix="export it with --to huggingface",
        )


def _prove(source: Source, folder: Path) -> Proof:
    reader = f"Stentor {__version__}, which reads every tensor back to the bit"
    found = read_model_folder(folder)
    for name, tensor in found.tensors.items():
        if not torch.equal(tensor.view(torch.int32), source.tensors[name].view(torch.int32)):
            raise UserError(f"{name} is not read back as it was written", fix=NOT_KEPT)
    question = make_question(source, folder)
    ours, theirs = (one.encode_batch(question.strings) for one in (source.tokenizer, found.require_tokenizer()))
    require_equal_ids(question.strings, ours, theirs, consumer=reader)
    agreement = compare_logits(
        our_logits(source.config, source.tensors, question), our_logits(found.config, found.tensors, question)
    )
    return Proof(
        consumer=reader,
        num_strings=len(question.strings),
        num_tokens=0,
        num_positions=len(question.positions),
        stored=agreement,
        original=agreement,
    )
