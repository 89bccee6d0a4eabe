from __future__ import annotations

import numpy as np
import pytest
import torch

from stentor.errors import UserError
from stentor.export import source
from stentor.export.source import make_question, our_logits, read_source, require_dtype
from stentor.model.folder import read_model_folder


@pytest.fixture
def tiny(models):
    return read_source(models["llama"], dtype="float32")


def test_question_spans_the_whole_context(tiny, tmp_path):
    question = make_question(tiny, tmp_path)
    assert len(question.strings) == source.NUM_STRINGS
    assert len(question.window) == tiny.config.max_position_embeddings - 1
    assert question.positions[0] == 0
    assert question.positions[-1] == len(question.window) - 1
    assert len(question.positions) == source.NUM_POSITIONS
    assert question.positions == sorted(set(question.positions))
    assert max(question.window) < tiny.tokenizer.vocab_size


def test_question_is_the_same_every_time(tiny, tmp_path):
    assert make_question(tiny, tmp_path) == make_question(tiny, tmp_path)


def test_the_plain_token_is_whole_text(tiny, tmp_path):
    assert tiny.tokenizer.decode([make_question(tiny, tmp_path).plain_token]).isalnum()


def test_our_logits_are_the_networks(tiny, models, tmp_path):
    question = make_question(tiny, tmp_path)
    model = read_model_folder(models["llama"]).build()
    with torch.inference_mode():
        expected = model(torch.tensor([question.window]))[0, question.positions]
    assert np.array_equal(our_logits(tiny.config, tiny.tensors, question), expected.numpy())


def test_another_product_stands_for_every_one_and_only_there(tiny, tmp_path):
    question = make_question(tiny, tmp_path)
    calls = []

    def product(values, matrix):
        calls.append(tuple(values.shape))
        return torch.nn.functional.linear(values, matrix)

    plain = our_logits(tiny.config, tiny.tensors, question)
    assert np.array_equal(our_logits(tiny.config, tiny.tensors, question, product=product), plain)
    # Each layer: query/key/value, attention output, gate/up, down; and the head.
    assert len(calls) == 4 * tiny.config.num_hidden_layers + 1
    zeroed = our_logits(
        tiny.config, tiny.tensors, question, product=lambda *given: 0 * torch.nn.functional.linear(*given)
    )
    assert not zeroed.any()
    assert torch.nn.functional.linear(torch.ones(1, 1), torch.ones(1, 1)) == 1


def test_an_unknown_dtype_is_refused():
    with pytest.raises(UserError, match="gguf files have no dtype 'q8'") as caught:
        require_dtype("q8", ("float16", "q8_0"), target="gguf")
    assert "q8_0" in caught.value.fix
