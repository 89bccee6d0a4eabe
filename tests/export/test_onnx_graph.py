"""The graph computes our network: any batch, any lengths, nothing or something before, padding on the left."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stentor.export.onnx_graph import HEAD_INPUT, INPUTS, OPSET, build_onnx
from stentor.model.folder import read_model_folder
from stentor.model.names import EMBEDDING
from stentor.runtime.onnx_network import past_names

NAMES = ("llama", "qwen3", "untied")


class Built:
    """A model's graph, a session of it, and the same network in torch."""

    def __init__(self, path):
        folder = read_model_folder(path)
        self.config = folder.config
        self.model = build_onnx(folder.config, {name: tensor.numpy() for name, tensor in folder.tensors.items()})
        self.session: Any = onnxruntime.InferenceSession(self.model.SerializeToString())
        self.network = folder.build()

    def expected(self, token_ids):
        with torch.no_grad():
            return self.network(torch.tensor([token_ids]))[0].numpy()

    def run(self, input_ids, attention_mask, position_ids, past=None):
        shape = (len(input_ids), self.config.num_key_value_heads, 0, self.config.head_dim)
        names = past_names(self.config)
        past = past or [np.zeros(shape, np.float32)] * len(names)
        given = zip(INPUTS, (input_ids, attention_mask, position_ids), strict=True)
        feed = {name: np.array(value, dtype=np.int64) for name, value in given}
        logits, *present = self.session.run(None, {**feed, **dict(zip(names, past, strict=True))})
        return logits, present

    def read(self, token_ids, pieces):
        """Return the logits after each token, read in pieces of these lengths."""
        past, logits, start = None, [], 0
        for length in pieces:
            end = start + length
            made, past = self.run([token_ids[start:end]], [[1] * end], [range(start, end)], past)
            logits.append(made[0])
            start = end
        return np.concatenate(logits)


@pytest.fixture(scope="module", params=NAMES)
def built(request, models):
    return Built(models[request.param])


ids = st.lists(st.integers(0, 499), min_size=2, max_size=60)


@settings(max_examples=12)
@given(token_ids=ids, data=st.data())
def test_any_pieces_give_the_logits_of_the_whole(built, token_ids, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(token_ids) - 1), max_size=4)))
    pieces = np.diff([0, *cuts, len(token_ids)]).tolist()
    np.testing.assert_allclose(built.read(token_ids, pieces), built.expected(token_ids), atol=1e-4)


@settings(max_examples=8)
@given(texts=st.lists(ids, min_size=2, max_size=4))
def test_padding_on_the_left_changes_nothing(built, texts):
    width = max(map(len, texts))
    padded = [[0] * (width - len(text)) + text for text in texts]
    mask = np.array([[0] * (width - len(text)) + [1] * len(text) for text in texts])
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    first, past = built.run([row[:-1] for row in padded], mask[:, :-1], positions[:, :-1])
    last, _ = built.run([row[-1:] for row in padded], mask, positions[:, -1:], past)
    for row, text in enumerate(texts):
        made = np.concatenate([first[row], last[row]])[width - len(text) :]
        np.testing.assert_allclose(made, built.expected(text), atol=1e-4)
    assert np.isfinite(first).all()


def test_single_tokens_from_the_first_to_the_end_of_the_context(built):
    token_ids = np.random.default_rng(0).integers(0, 500, built.config.max_position_embeddings).tolist()
    np.testing.assert_allclose(built.read(token_ids, [1] * len(token_ids)), built.expected(token_ids), atol=1e-4)


def test_a_position_beyond_the_context_is_an_error_and_no_wrong_number(built):
    with pytest.raises(Exception, match="out of data bounds"):
        built.run([[1]], [[1]], [[built.config.max_position_embeddings]])


def test_names_and_lengths_are_those_that_others_expect(built):
    config = built.config
    inputs = {value.name: value.shape for value in built.session.get_inputs()}
    assert inputs.pop("input_ids") == inputs.pop("position_ids") == ["batch_size", "sequence_length"]
    assert inputs.pop("attention_mask") == ["batch_size", "total_sequence_length"]
    heads = [config.num_key_value_heads, config.head_dim]
    assert len(inputs) == 2 * config.num_hidden_layers
    assert inputs["past_key_values.1.value"] == ["batch_size", heads[0], "past_sequence_length", heads[1]]
    outputs = {value.name: value.shape for value in built.session.get_outputs()}
    assert outputs["logits"] == ["batch_size", "sequence_length", config.vocab_size]
    assert outputs["present.0.key"] == ["batch_size", heads[0], "total_sequence_length", heads[1]]


def test_only_operations_of_onnx_itself_and_each_weight_once(built):
    assert {node.domain for node in built.model.graph.node} == {""}
    assert [(opset.domain, opset.version) for opset in built.model.opset_import] == [("", OPSET)]
    constants = [constant.name for constant in built.model.graph.initializer]
    assert len(constants) == len(set(constants))
    assert EMBEDDING in constants
    assert (HEAD_INPUT in constants) is not built.config.tie_word_embeddings
    weights = [one for one in built.model.graph.initializer if "weight" in one.name or one.name == HEAD_INPUT]
    numbers = sum(np.prod(constant.dims) for constant in weights)
    assert numbers == built.config.num_parameters


def test_onnx_infers_the_declared_shapes(built):
    onnx.shape_inference.infer_shapes(built.model, check_type=True, strict_mode=True)


def test_the_same_model_gives_the_same_bytes(built, models, request):
    again = Built(models[request.node.callspec.params["built"]])
    assert again.model.SerializeToString() == built.model.SerializeToString()


def test_onnxruntime_makes_one_operation_of_each_norm(built, tmp_path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(built.model.SerializeToString(), options)
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    norms = 2 * built.config.num_hidden_layers * (2 if built.config.has_qk_norm else 1) + 1
    assert kinds.count("SimplifiedLayerNormalization") == norms
