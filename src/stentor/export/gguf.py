"""A GGUF file, proven in llama.cpp before it is kept."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from stentor.artifacts import open_file, refuse_existing
from stentor.errors import UserError, missing_extra
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
from stentor.tokenizer import Tokenizer

try:
    from stentor.export.gguf_file import write_gguf
    from stentor.export.quantize import STORED_TYPES, as_stored
except ModuleNotFoundError as error:
    if error.name != "gguf":
        raise
    raise missing_extra("gguf", "export", needed_for="writing a GGUF file") from None

# Beside weights in Q8_0, llama.cpp also rounds activations to 8 bits. We do the same, but where the two programs'
# float32 sums differ in the last bit a value can round the other way, and deep networks amplify that.
KL_LIMIT_NATS = {"float32": 1e-4, "float16": 1e-4, "q8_0": 1e-3}


def export_gguf(
    model: str | Path,
    destination: Path,
    *,
    dtype: str = "float16",
    replace: bool = False,
    unverified: bool = False,
) -> ExportReport:
    """Write a model as one GGUF file that llama.cpp opens.

    The file is kept only if llama.cpp gives our ids for 10,000 mixed strings and our bytes for every token, and if
    its next-token distributions agree: with our network computing as llama.cpp does from the stored weights, a mean
    KL of at most 1e-4 nats (1e-3 for Q8_0); for float32 and float16 also with the original, at every position.

    Args:
        model: a model folder, a run folder or a Hub id.
        destination: the file to make; its name, without .gguf, becomes the model's name in the file.
        dtype: of the matrices: `float32`, `float16` or `q8_0`.
        replace: an existing destination is replaced; otherwise it is refused.
        unverified: keep the file unproven where llama.cpp (the package xllamacpp) is not installed.

    Raises:
        UserError: the model cannot be read or expressed, the destination exists, or llama.cpp disagrees.
        MissingDependencyError: xllamacpp is not installed and `unverified` was not given.
    """
    require_dtype(dtype, tuple(STORED_TYPES), target="gguf")
    if destination.suffix != ".gguf":
        raise UserError(f"the output {destination} is not named .gguf", fix=f"name it {destination.name}.gguf")
    if destination.is_dir():
        raise UserError(f"the output {destination} is a folder; it is kept", fix="choose another name")
    refuse_existing(destination, replace=replace)
    can_prove = is_installed("xllamacpp", unverified=unverified)
    source = read_source(model, dtype=dtype)
    arrays = {name: tensor.numpy() for name, tensor in source.tensors.items()}
    with open_file(destination) as partial:
        path = Path(partial.name)
        write_gguf(path, source.config, arrays, source.tokenizer, dtype=dtype, name=destination.stem)
        proof = _prove(source, path, dtype) if can_prove else None
        size_bytes = path.stat().st_size
    return ExportReport(path=str(destination), format="gguf", dtype=dtype, size_bytes=size_bytes, proof=proof)


def _prove(source: Source, path: Path, dtype: str) -> Proof:
    question = make_question(source, path)
    answer = ask("stentor.export.in_llama_cpp", question, consumer="llama.cpp")
    consumer = f"llama.cpp (xllamacpp {answer.facts['version']})"
    ours = source.tokenizer.encode_batch(question.strings)
    require_equal_ids(question.strings, ours, answer.facts["ids"], consumer=consumer)
    _require_equal_bytes(source.tokenizer, answer.facts["token_bytes"], consumer=consumer)

    def rounding(values: Tensor) -> Tensor:
        return torch.from_numpy(as_stored(values.numpy(), dtype).copy())

    stored = {name: rounding(tensor) for name, tensor in source.tensors.items()}
    proof = Proof(
        consumer=consumer,
        num_strings=len(question.strings),
        num_tokens=source.tokenizer.vocab_size,
        num_positions=len(question.positions),
        # llama.cpp rounds the input of every product to the type of its weights.
        stored=compare_logits(our_logits(source.config, stored, question, rounding=rounding), answer.logits_PV),
        original=compare_logits(our_logits(source.config, source.tensors, question), answer.logits_PV),
    )
    limit = KL_LIMIT_NATS[dtype]
    require_within("the mean KL in nats", proof.stored.mean_kl_nats, limit, consumer=consumer)
    if dtype != "q8_0":
        require_within("the largest KL in nats", proof.original.max_kl_nats, limit, consumer=consumer)
    return proof


def _require_equal_bytes(tokenizer: Tokenizer, theirs: dict[str, str], *, consumer: str) -> None:
    for token_id in range(tokenizer.vocab_size):
        ours, told = tokenizer.token_bytes(token_id), bytes.fromhex(theirs[str(token_id)])
        if ours != told:
            raise UserError(f"{consumer} reads token {token_id} as {told!r}, not {ours!r}", fix=NOT_KEPT)
