"""Write a model as one GGUF file, as llama.cpp reads it.

Written directly: llama.cpp's converter recognises a tokenizer by a hash of the ids it gives for a test string, and
so refuses every newly trained vocabulary. The same model under the same name gives the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from gguf.utility import size_label
from numpy.typing import NDArray

from stentor.errors import UserError
from stentor.export.about import DESCRIPTION_KEY, About
from stentor.export.quantize import dtype_of, encode, stored_type
from stentor.export.rwkv import RwkvVocabulary
from stentor.model.config import ModelConfig
from stentor.model.gguf_names import TOKENIZER_SHA256_KEY, gguf_name, hugging_face_name, row_order
from stentor.model.names import HEAD, expected_shapes
from stentor.model.quantized import Array, Quantized
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.bpe import LLAMA3_PATTERN
from stentor.tokenizer.library import TOKENIZER_FILE

_FILE_TYPES = {
    "float32": LlamaFileType.ALL_F32,
    "float16": LlamaFileType.MOSTLY_F16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q6_k": LlamaFileType.MOSTLY_Q6_K,
    "q5_1": LlamaFileType.MOSTLY_Q5_1,
    "q5_k_m": LlamaFileType.MOSTLY_Q5_K_M,
    "q5_0": LlamaFileType.MOSTLY_Q5_0,
    "q4_1": LlamaFileType.MOSTLY_Q4_1,
    "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
    "int8": LlamaFileType.MOSTLY_Q8_0,
}


def write_gguf(
    path: Path,
    config: ModelConfig,
    tensors: Mapping[str, Array],
    tokenizer: Tokenizer,
    *,
    dtype: str,
    name: str,
    about: About | None = None,
    mapped: tuple[RwkvVocabulary, Mapping[str, Any]] | None = None,
) -> None:
    """Write a model to `path`, a partial file that the caller renames once it is proven.

    Args:
        path: the file.
        config: the model's sizes.
        tensors: all tensors under Hugging Face's names, float32 or in blocks, which are stored as they are; a tied head
            is left out.
        tokenizer: the model's.
        dtype: of the matrices that are float32, one of `FILE_DTYPES`.
        name: what llama.cpp shows as the model's name.
        about: what the model's card says of it.
        mapped: stands in for a tokenizer that llama.cpp does not have, with metadata that says so; a byte-level BPE
            needs none.
    """
    writer = GGUFWriter(path, config.carrier)
    try:
        writer.add_type("model")
        writer.add_name(name)
        num_parameters = sum(math.prod(shape) for shape in expected_shapes(config).values())
        writer.add_size_label(size_label(num_parameters, 0, 0, 0))
        _add_sizes(writer, config, dtype)
        if mapped is None:
            _add_bpe(writer, tokenizer, config.vocab_size)
        else:
            _add_rwkv(writer, mapped[0])
            _add_metadata(writer, {TOKENIZER_SHA256_KEY: tokenizer.sha256})
        _add_metadata(writer, _described(about or About(), {} if mapped is None else mapped[1]))
        _add_special_ids(writer, tokenizer)
        for name_there, values in gguf_tensors(config, tensors):
            data, kind = _stored(hugging_face_name(name_there), values, config, dtype)
            # Float types are told by the array's own dtype; only blocks need to be named.
            raw = None if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16) else kind
            writer.add_tensor(name_there, data, raw_dtype=raw)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _stored(
    name: str, values: Array, config: ModelConfig, dtype: str
) -> tuple[NDArray[np.generic], GGMLQuantizationType]:
    """Return the data of a tensor, and its type."""
    if isinstance(values, Quantized):
        rows = np.ascontiguousarray(values.blocks).view(np.uint8)
        return rows.reshape(len(values.blocks), -1), GGMLQuantizationType[values.kind]
    chosen = dtype_of(name, dtype, is_tied=config.tie_word_embeddings, num_layers=config.num_hidden_layers)
    return encode(values, chosen), stored_type(values.shape, chosen)


def gguf_tensors(config: ModelConfig, tensors: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """Yield each tensor under llama.cpp's name, in its layout."""
    for name, values in tensors.items():
        if name == HEAD and config.tie_word_embeddings:
            continue
        yield gguf_name(name), _interleaved(name, values, config)


def _interleaved(name: str, values: Array, config: ModelConfig) -> Array:
    """Put the rows of a tensor where llama.cpp has them."""
    order = row_order(name, config)
    if order is None:
        return values
    return values.rows(order) if isinstance(values, Quantized) else values[order]


def _add_sizes(writer: GGUFWriter, config: ModelConfig, dtype: str) -> None:
    writer.add_file_type(_FILE_TYPES[dtype])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_bpe(writer: GGUFWriter, tokenizer: Tokenizer, num_rows: int) -> None:
    """Describe the vocabulary; embedding rows without a token are named [PADi] and marked unused."""
    description = json.loads(tokenizer.files()[TOKENIZER_FILE])
    if not _has_llama3_words(description["pre_tokenizer"]):
        raise UserError(
            "the model's tokenizer cuts words in another way than Llama 3's, the only one that Stentor writes as GGUF",
            fix="use a model with a tokenizer made by: stentor tokenizer train",
        )
    tokens, types = _tokens(description, num_rows)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in description["model"]["merges"]])


def _add_rwkv(writer: GGUFWriter, vocabulary: RwkvVocabulary) -> None:
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list(vocabulary.spellings())
    writer.add_token_types(vocabulary.token_types)
    writer.add_unk_token_id(vocabulary.unknown_id)


def _described(about: About, costs: Mapping[str, Any]) -> dict[str, Any]:
    """Join what a card says with what a mapped tokenizer costs, which is said behind its description."""
    known = about.gguf_metadata()
    texts = [str(each[DESCRIPTION_KEY]) for each in (known, costs) if DESCRIPTION_KEY in each]
    return {**known, **costs, **({DESCRIPTION_KEY: " ".join(texts)} if texts else {})}


def _add_metadata(writer: GGUFWriter, metadata: Mapping[str, Any]) -> None:
    add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32, list: writer.add_array}
    for key, value in metadata.items():
        add[type(value)](key, value)


def _add_special_ids(writer: GGUFWriter, tokenizer: Tokenizer) -> None:
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


def _tokens(description: dict[str, Any], num_rows: int) -> tuple[list[str], list[int]]:
    tokens = [f"[PAD{row}]" for row in range(num_rows)]
    types = [int(TokenType.UNUSED)] * num_rows
    for token, token_id in description["model"]["vocab"].items():
        tokens[token_id], types[token_id] = token, int(TokenType.NORMAL)
    for special in description["added_tokens"]:
        tokens[special["id"]], types[special["id"]] = special["content"], int(TokenType.CONTROL)
    return tokens, types


def _has_llama3_words(pre_tokenizer: dict[str, Any]) -> bool:
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    patterns = [step["pattern"].get("Regex") for step in steps if step["type"] == "Split"]
    return patterns == [LLAMA3_PATTERN]
