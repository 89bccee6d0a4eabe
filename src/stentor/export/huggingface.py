"""A model folder in Hugging Face layout, proven in transformers before it is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from stentor.artifacts import Staging, refuse_existing, staged_directory
from stentor.errors import UserError
from stentor.export.about import README_NAME
from stentor.export.consumer import ask, is_installed
from stentor.export.parity import (
    NOT_KEPT,
    ExportReport,
    Proof,
    compare_logits,
    require_equal_ids,
    require_within,
)
from stentor.export.source import Source, make_question, our_logits, read_source, require_dtype
from stentor.model.folder import write_model_folder
from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
RELATIVE_LOGIT_LIMIT = 1e-5
HOW_TO_OPEN = """# {name}

The weights are a plain Llama-style model that transformers opens by itself. The tokenizer is a TokenMonster vocabulary,
which transformers does not have: without the package stentor, `AutoTokenizer.from_pretrained` stops with an error that
names it, and never gives wrong ids.

    pip install 'stentor[hf]'

```python
import stentor.hf  # lets AutoTokenizer open the vocabulary
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
inputs = tokenizer("The history of", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20)[0]))
```

Text comes back in canonical decomposition (NFD), and bytes that no token covers vanish.
"""


def export_huggingface(
    model: str | Path,
    destination: Path,
    *,
    dtype: str = "float32",
    replace: bool = False,
    unverified: bool = False,
) -> ExportReport:
    """Write a model as a folder that plain `from_pretrained` opens.

    A TokenMonster vocabulary opens after `import stentor.hf`; the proof does that, and the folder's README says so.

    The folder is kept only if transformers loads it with an empty loading report, gives our ids for 10,000 mixed
    strings, and our logits to 1e-5 (relative to the largest logit where that is above 1).

    Args:
        model: a model folder, a run folder, a .gguf file or a Hub id.
        destination: the folder to make.
        dtype: of the stored weights: `float32`, `float16` or `bfloat16`.
        replace: an existing destination is replaced; otherwise it is refused.
        unverified: keep the folder unproven where transformers is not installed.

    Raises:
        UserError: the model cannot be read, the destination exists, or transformers disagrees.
        MissingDependencyError: transformers is not installed and `unverified` was not given.
    """
    require_dtype(dtype, tuple(DTYPES), target="huggingface")
    refuse_existing(destination, replace=replace, kind="model")
    can_prove = is_installed("transformers", unverified=unverified)
    source = read_source(model, dtype=dtype)
    with staged_directory(destination, kind="model", replace=replace) as staging:
        write_folder(staging, source, dtype=dtype, name=destination.name)
        size_bytes = sum(path.stat().st_size for path in staging.path.iterdir())
        proof = prove(source, staging.path, dtype=dtype) if can_prove else None
        report = ExportReport(
            path=str(destination), format="huggingface", dtype=dtype, size_bytes=size_bytes, proof=proof
        )
        staging.details["export"] = report.to_dict()
    return report


def write_folder(staging: Staging, source: Source, *, dtype: str, name: str) -> None:
    """Write a model and its tokenizer, and how to open them where that is not plain.

    Args:
        staging: the folder being filled.
        source: the model.
        dtype: of the stored weights.
        name: of the folder that it will be.
    """
    write_model_folder(staging, source.config, source.tensors, source.tokenizer, dtype=DTYPES[dtype])
    if readme := _readme(source, name):
        staging.write(README_NAME, readme)


def prove(source: Source, folder: Path, *, dtype: str) -> Proof:
    """Let transformers open a folder that was written of a model, and compare.

    Raises:
        UserError: it disagrees, on token ids or on logits, or does not find the whole model.
    """
    question = make_question(source, folder)
    answer = ask("stentor.export.in_transformers", question, consumer="transformers")
    consumer = f"transformers {answer.facts['version']}"
    if answer.facts["loading"]:
        raise UserError(f"{consumer} does not find the whole model: {answer.facts['loading']}", fix=NOT_KEPT)
    ours = source.tokenizer.encode_batch(question.strings)
    require_equal_ids(question.strings, ours, answer.facts["ids"], consumer=consumer)
    stored = {name: tensor.to(DTYPES[dtype]).float() for name, tensor in source.tensors.items()}
    stored_PV = our_logits(source.config, stored, question)
    proof = Proof(
        consumer=consumer,
        num_strings=len(question.strings),
        num_tokens=0,
        num_positions=len(question.positions),
        stored=compare_logits(stored_PV, answer.logits_PV),
        original=compare_logits(our_logits(source.config, source.tensors, question), answer.logits_PV),
    )
    limit = RELATIVE_LOGIT_LIMIT * max(1.0, float(np.abs(stored_PV).max()))
    require_within("the largest logit difference", proof.stored.max_logit_difference, limit, consumer=consumer)
    return proof


def _readme(source: Source, name: str) -> str:
    """Return a card that keeps what the source says of the model, and tells how to open what is not plain."""
    if isinstance(source.tokenizer, TokenMonsterTokenizer):
        return source.about.front_matter() + HOW_TO_OPEN.format(name=name)
    return source.about.readme(name)
