"""A token of each sequence in a fixed shape: the logits of a whole pass, and nothing of its neighbours touched."""

from __future__ import annotations

import dataclasses
import gc
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from networks import random_llama

from stentor.model.config import ModelConfig
from stentor.model.folder import hugging_face_config
from stentor.model.names import to_hugging_face
from stentor.model.numerics import Numerics
from stentor.runtime.torch_network import TorchNetwork
from stentor.runtime.torch_step import Room, TorchStep

CONFIG = ModelConfig(
    vocab_size=201,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=60,
)
CONFIGS = {"llama": CONFIG, "qwen3, untied": dataclasses.replace(CONFIG, carrier="qwen3", tie_word_embeddings=False)}
LENGTHS = (1, 7, 40)
TEXTS = [np.random.default_rng(seed).integers(0, 201, length + 6).tolist() for seed, length in enumerate(LENGTHS)]


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=list(CONFIGS))
def llama(request):
    return random_llama(request.param)


def in_transformers(llama) -> Any:
    """Return the same model in transformers."""
    raw = hugging_face_config(llama.config, None, dtype=torch.float32)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**raw))
    model.load_state_dict(to_hugging_face(llama.config, llama.state_dict()), strict=False)
    return model.eval()


def side_by_side(network: TorchNetwork) -> np.ndarray:
    """Return the logits after the last six tokens of each text, which are read together [6, texts, V]."""
    reader = network.fresh(len(TEXTS))
    for index, (text, length) in enumerate(zip(TEXTS, LENGTHS, strict=True)):
        reader.extend(text[:length], 0, sequence=index)
    rows = []
    for step in range(6):
        places = [length + step for length in LENGTHS]
        tokens = [text[place] for text, place in zip(TEXTS, places, strict=True)]
        rows.append(reader.extend_each(tokens, places, range(len(TEXTS))).copy())
    return np.stack(rows)


def test_texts_of_different_lengths_have_the_logits_that_transformers_gives_each_alone(llama):
    found, theirs = side_by_side(TorchNetwork(llama)), in_transformers(llama)
    for index, (text, length) in enumerate(zip(TEXTS, LENGTHS, strict=True)):
        with torch.inference_mode():
            expected = theirs(torch.tensor([text])).logits[0, length:].numpy()
        assert np.abs(found[:, index] - expected).max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_the_logits_are_near(llama, dtype):
    exact = side_by_side(TorchNetwork(llama))
    other = random_llama(llama.config)
    other.numerics = Numerics(compute_dtype=dtype)
    near = side_by_side(TorchNetwork(other))
    assert near.dtype == np.float32
    assert 0 < np.abs(near - exact).max() < 0.1 * np.ptp(exact)
    assert np.corrcoef(near.ravel(), exact.ravel())[0, 1] > 0.999


def test_weights_are_converted_once(llama, monkeypatch):
    other = random_llama(llama.config)
    other.numerics = Numerics(compute_dtype=torch.bfloat16)
    network, calls = TorchNetwork(other), []
    network.fresh().extend([3], 0)
    monkeypatch.setattr(Numerics, "layers", lambda self, *_, **__: calls.append(self))
    reader = network.fresh()
    reader.extend_each([3], [0], [0])
    reader.extend_each([4], [1], [0])
    assert not calls


def test_an_idle_sequence_is_left_as_it_is(llama):
    network = TorchNetwork(llama)
    reader = network.fresh(2)
    for sequence in range(2):
        reader.extend([5, 6, 7], 0, sequence=sequence)
    before = reader._room.cache.k_LBKSH[:, 1, :, :-1].clone()
    reader.extend_each([8], [3], [0])
    assert torch.equal(reader._room.cache.k_LBKSH[:, 1, :, :-1], before)
    expected = network.fresh().extend([5, 6, 7, 9], 0)
    np.testing.assert_allclose(reader.extend_each([9], [3], [1]), expected, atol=1e-4)


def test_ids_on_the_device_are_read_as_those_from_here(llama):
    step = TorchStep(llama)
    one, other = Room(step, 2), Room(step, 2)
    expected = [one.read(ids, [place] * 2, [0, 1]).copy() for place, ids in enumerate([[3, 4], [5, 6]])]
    with torch.inference_mode():
        found = [other.read_there(torch.tensor(ids), place) for place, ids in enumerate([[3, 4], [5, 6]])]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs)


def test_the_first_and_the_last_place_of_the_context(llama):
    network = TorchNetwork(llama)
    text = np.random.default_rng(5).integers(0, 201, 60).tolist()
    expected = network.fresh().extend(text, 0, all_scored=True)
    reader = network.fresh()
    np.testing.assert_allclose(reader.extend_each(text[:1], [0], [0]), expected[:1], atol=1e-4)
    reader.extend(text[:59], 0)
    np.testing.assert_allclose(reader.extend_each(text[59:], [59], [0]), expected[59:], atol=1e-4)


def test_a_room_is_used_again_once_its_text_is_forgotten(llama):
    network = TorchNetwork(llama)
    first = network.fresh(2)
    first.extend([1, 2, 3], 0)
    room, other = first._room, network.fresh(2)
    assert other._room is not room
    del first
    gc.collect()
    again = network.fresh(2)
    assert again._room is room
    np.testing.assert_allclose(again.extend([7, 8], 0), network.fresh().extend([7, 8], 0), atol=1e-5)


def test_what_was_never_read_from_takes_no_room(llama):
    network = TorchNetwork(llama)
    network.fresh(4)
    assert not network._rooms._free
