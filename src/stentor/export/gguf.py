"""A GGUF file, proven in llama.cpp before it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from stentor.artifacts import open_file, refuse_existing
from stentor.errors import UserError, missing_extra
from stentor.export.consumer import ask, is_installed
from stentor.export.mapped import DEFAULT_SAMPLE, measure_mapping, prepared, sample_pieces
from stentor.export.parity import (
    NOT_KEPT,
    ExportReport,
    MappedTokenizer,
    Proof,
    compare_logits,
    require_equal_ids,
    require_within,
)
from stentor.export.source import Source, make_question, mixed_probes, our_logits, read_source, require_dtype
from stentor.model.names import EMBEDDING, HEAD
from stentor.model.quantized import BLOCK_SIZE, Array, Quantized
from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer

try:
    from stentor.export.gguf_file import write_gguf
    from stentor.export.quantize import (
        FILE_DTYPES,
        PLAIN,
        activation_dtype,
        as_stored,
        dtype_of,
        has_minima,
        require_rows,
        rounded_activations,
        sum_errors,
    )
    from stentor.export.rounding import prepared_tensors
    from stentor.export.rwkv import RwkvVocabulary, rwkv_vocabulary
except ModuleNotFoundError as error:
    if error.name != "gguf":
        raise
    raise missing_extra("gguf", "export", needed_for="writing a GGUF file") from None

# Beside weights in blocks, llama.cpp also rounds activations to 8 bits. We do the same, but where the two programs'
# float32 sums differ in the last bit a value can round the other way, and deep networks amplify that. With K-quants it
# rounds activations in blocks of 256, more coarsely.
KL_LIMIT_NATS, KL_LIMIT_OF_BLOCKS_NATS, KL_LIMIT_OF_SUPER_BLOCKS_NATS = 1e-4, 1e-3, 5e-3


def export_gguf(
    model: str | Path,
    destination: Path,
    *,
    dtype: str = "float16",
    replace: bool = False,
    unverified: bool = False,
    compare: str | None = None,
    calibrate: str | None = None,
) -> ExportReport:
    """Write a model as one GGUF file that llama.cpp opens.

    The file is kept only if llama.cpp gives our ids for 10,000 mixed strings and our bytes for every token, and if
    its next-token distributions agree: with our network computing as llama.cpp does from the stored weights, a mean
    KL of at most 1e-4 nats (1e-3 for weights in blocks); for float32 and float16 also with the original, at every
    position.

    llama.cpp has no TokenMonster. A model with such a vocabulary gets the closest mapping; its ids are compared with
    what the mapping says, and how far that is from the model's own ids is measured, reported and kept in the file.

    Args:
        model: a model folder, a run folder, a .gguf file or a Hub id.
        destination: the file to make; its name, without .gguf, becomes the model's name in the file.
        dtype: of the matrices, one of `quantize.FILE_DTYPES`. With the coarser ones the matrix that makes the logits is
            Q8_0, or Q6_K.
        replace: an existing destination is replaced; otherwise it is refused.
        unverified: keep the file unproven where llama.cpp (the package xllamacpp) is not installed.
        compare: a source of text to measure a mapped tokenizer on; `builtin:docs` by default.
        calibrate: a source of text that Q4_0 and Q5_0 are rounded for, each error compensated by later weights.

    Raises:
        UserError: the model cannot be read or expressed, the destination exists, or llama.cpp disagrees.
        MissingDependencyError: xllamacpp is not installed and `unverified` was not given.
    """
    require_dtype(dtype, FILE_DTYPES, target="gguf")
    if destination.suffix != ".gguf":
        raise UserError(f"the output {destination} is not named .gguf", fix=f"name it {destination.name}.gguf")
    if destination.is_dir():
        raise UserError(f"the output {destination} is a folder; it is kept", fix="choose another name")
    refuse_existing(destination, replace=replace)
    can_prove = is_installed("xllamacpp", unverified=unverified)
    source = read_source(model, dtype=dtype)
    arrays = _prepared(source, dtype, calibrate)
    mapping = _mapping(source, compare)
    mapped = None if mapping is None else (mapping.vocabulary, mapping.cost.to_metadata())
    with open_file(destination) as partial:
        path = Path(partial.name)
        write_gguf(
            path,
            source.config,
            arrays,
            source.tokenizer,
            dtype=dtype,
            name=destination.stem,
            about=source.about,
            mapped=mapped,
        )
        proof = _prove(source, arrays, path, dtype, mapping) if can_prove else None
        size_bytes = path.stat().st_size
    return ExportReport(
        path=str(destination),
        format="gguf",
        dtype=dtype,
        size_bytes=size_bytes,
        proof=proof,
        mapped_tokenizer=mapping and mapping.cost,
    )


def write_source(source: Source, path: Path, *, dtype: str, name: str, calibrate: str | None = None) -> None:
    """Write a model to a partial file that nobody but us will open, so that nothing is proven; see `export_gguf`."""
    tokenizer = source.tokenizer
    is_mapped = isinstance(tokenizer, TokenMonsterTokenizer)
    mapped = (rwkv_vocabulary(tokenizer, source.config.vocab_size), {}) if is_mapped else None
    arrays = _prepared(source, dtype, calibrate)
    write_gguf(path, source.config, arrays, tokenizer, dtype=dtype, name=name, mapped=mapped)


def _prepared(source: Source, dtype: str, calibrate: str | None) -> dict[str, Array]:
    require_rows(dtype, (tensor.shape[1] for tensor in source.tensors.values() if tensor.ndim == 2))
    return prepared_tensors(source, dtype, calibrate=calibrate)


@dataclass(frozen=True, slots=True)
class _Mapping:
    """The tokenizer that stands in for one that llama.cpp does not have."""

    vocabulary: RwkvVocabulary
    cost: MappedTokenizer
    texts: list[str]
    """Raw and prepared ones, whose ids llama.cpp must give as the mapping does."""


def _mapping(source: Source, compare: str | None) -> _Mapping | None:
    tokenizer = source.tokenizer
    if not isinstance(tokenizer, TokenMonsterTokenizer):
        if compare is not None:
            raise UserError(
                "there is nothing to compare: llama.cpp carries the model's own tokenizer exactly",
                fix="leave --compare out",
            )
        return None
    sample = compare or DEFAULT_SAMPLE
    vocabulary = rwkv_vocabulary(tokenizer, source.config.vocab_size)
    cost = measure_mapping(source, vocabulary.encode, kind="rwkv", sample=sample)
    raw = [*mixed_probes(), *sample_pieces(sample)]
    return _Mapping(vocabulary, cost, [*raw, *(prepared(tokenizer, text).decode() for text in raw)])


def _prove(source: Source, arrays: Mapping[str, Array], path: Path, dtype: str, mapping: _Mapping | None) -> Proof:
    question = make_question(source, path)
    if mapping is None:
        ours = source.tokenizer.encode_batch(question.strings)
        token_bytes = [source.tokenizer.token_bytes(token_id) for token_id in range(source.tokenizer.vocab_size)]
    else:
        question = replace(question, strings=mapping.texts)
        ours = [mapping.vocabulary.encode(text.encode()) for text in question.strings]
        token_bytes = mapping.vocabulary.printed(source.tokenizer.vocab_size)
    answer = ask("stentor.export.in_llama_cpp", question, consumer="llama.cpp")
    consumer = f"llama.cpp (xllamacpp {answer.facts['version']})"
    require_equal_ids(question.strings, ours, answer.facts["ids"], consumer=consumer)
    _require_equal_bytes(token_bytes, answer.facts["token_bytes"], consumer=consumer)

    stored = _as_stored(source, arrays, dtype)
    proof = Proof(
        consumer=consumer,
        num_strings=len(question.strings),
        num_tokens=source.tokenizer.vocab_size,
        num_positions=len(question.positions),
        stored=compare_logits(
            our_logits(source.config, stored, question, product=_product(source, dtype)),
            answer.logits_PV,
        ),
        original=compare_logits(our_logits(source.config, source.tensors, question), answer.logits_PV),
    )
    limit = _kl_limit(dtype)
    require_within("the mean KL in nats", proof.stored.mean_kl_nats, limit, consumer=consumer)
    if dtype in PLAIN:
        require_within("the largest KL in nats", proof.original.max_kl_nats, limit, consumer=consumer)
    return proof


def _as_stored(source: Source, arrays: Mapping[str, Array], dtype: str) -> dict[str, Tensor]:
    """Return the weights that a reader of the file sees."""
    choose = _dtype_chooser(source, dtype)
    return {
        name: torch.from_numpy(
            array.dequantized() if isinstance(array, Quantized) else as_stored(array, choose(name)).copy()
        )
        for name, array in arrays.items()
    }


def _kl_limit(dtype: str) -> float:
    if dtype in PLAIN:
        return KL_LIMIT_NATS
    return KL_LIMIT_OF_SUPER_BLOCKS_NATS if "_k" in dtype else KL_LIMIT_OF_BLOCKS_NATS


def _product(source: Source, dtype: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return how llama.cpp multiplies inputs with a matrix; the one of most rows makes the logits."""
    config, choose = source.config, _dtype_chooser(source, dtype)
    layers = choose("model.layers.0.mlp.up_proj.weight")
    head = choose(EMBEDDING if config.tie_word_embeddings else HEAD)

    def product(values: Tensor, matrix_RC: Tensor) -> Tensor:
        stored = head if len(matrix_RC) == config.vocab_size else layers
        inputs = values.numpy()
        made = F.linear(torch.from_numpy(rounded_activations(inputs, activation_dtype(stored)).copy()), matrix_RC)
        if not has_minima(stored) or matrix_RC.shape[1] % BLOCK_SIZE:  # of other widths it is in float16
            return made
        # A block's least weight is its minimum: the smallest of its whole numbers is 0.
        minima_RB = matrix_RC.unflatten(1, (-1, BLOCK_SIZE)).amin(dim=-1)
        return made + F.linear(torch.from_numpy(sum_errors(inputs)), minima_RB)

    return product


def _dtype_chooser(source: Source, dtype: str) -> Callable[[str], str]:
    config = source.config
    return partial(dtype_of, dtype=dtype, is_tied=config.tie_word_embeddings, num_layers=config.num_hidden_layers)


def _require_equal_bytes(token_bytes: Sequence[bytes], theirs: dict[str, str], *, consumer: str) -> None:
    for token_id, ours in enumerate(token_bytes):
        told = bytes.fromhex(theirs[str(token_id)])
        if ours != told:
            raise UserError(f"{consumer} reads token {token_id} as {told!r}, not {ours!r}", fix=NOT_KEPT)
