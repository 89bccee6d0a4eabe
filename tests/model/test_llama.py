"""Our network against transformers' Llama and Qwen3, and against its own slow twins."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import transformers

from stentor.model.config import ModelConfig
from stentor.model.folder import build_model, hugging_face_config
from stentor.model.init import initialize
from stentor.model.llama import KeyValueCache, Llama, attention_mask, document_ids, rotary_tables
from stentor.model.loss import shifted_loss, token_nats
from stentor.model.names import to_hugging_face
from stentor.model.ops import rotate
from stentor.model.presets import PRESETS

SMALL = ModelConfig(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=8,
    max_position_embeddings=40,
)
VARIANTS = {
    "llama": SMALL,
    "llama-gqa": dataclasses.replace(SMALL, num_key_value_heads=2),
    "llama-untied": dataclasses.replace(SMALL, tie_word_embeddings=False),
    "llama-wide-heads-theta": dataclasses.replace(SMALL, head_dim=16, rope_theta=100_000.0),
    "qwen3": dataclasses.replace(SMALL, carrier="qwen3", rms_norm_eps=1e-6),
    "qwen3-gqa-untied": dataclasses.replace(SMALL, carrier="qwen3", num_key_value_heads=1, tie_word_embeddings=False),
}


def random_model(config: ModelConfig, seed: int = 0, scale: float = 6.0) -> Llama:
    """Return a model whose weights are large enough to make logits differ visibly, norms included."""
    model = Llama(config).eval()
    initialize(model, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
            else:
                parameter.mul_(scale)
    return model


def random_ids(config: ModelConfig, batch_size: int, num_tokens: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (batch_size, num_tokens), generator=generator)


def transformers_twin(model: Llama) -> torch.nn.Module:
    raw = hugging_face_config(model.config, None, dtype=torch.float32)
    config_class = {"llama": transformers.LlamaConfig, "qwen3": transformers.Qwen3Config}[raw["model_type"]]
    model_class = {"llama": transformers.LlamaForCausalLM, "qwen3": transformers.Qwen3ForCausalLM}[raw["model_type"]]
    twin = model_class(config_class(**raw))
    result = twin.load_state_dict(to_hugging_face(model.config, model.state_dict()), strict=False)
    assert not result.unexpected_keys
    assert result.missing_keys in ([], ["lm_head.weight"])
    twin.tie_weights()
    return twin.eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_transformers(variant):
    model = random_model(VARIANTS[variant])
    ids_BT = random_ids(model.config, 2, 40)
    with torch.no_grad():
        ours, theirs = model(ids_BT), transformers_twin(model)(ids_BT).logits
    assert theirs.std() > 0.5
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["llama-gqa", "qwen3"])
def test_loss_equals_transformers(variant):
    model = random_model(VARIANTS[variant])
    ids_BT = random_ids(model.config, 2, 16)
    labels_BT = ids_BT.clone()
    labels_BT[1, 9:] = -100
    total_nats, count = shifted_loss(model, ids_BT, labels_BT)
    theirs = transformers_twin(model)(ids_BT, labels=labels_BT).loss
    assert count == 15 + 8
    torch.testing.assert_close(total_nats / count, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_decoding_with_a_cache_equals_one_pass(variant):
    model = random_model(VARIANTS[variant])
    ids_BT = random_ids(model.config, 2, 17)
    cache = KeyValueCache(model.config, 2, dtype=torch.float32, device=torch.device("cpu"))
    with torch.no_grad():
        pieces = [model(piece, cache=cache) for piece in ids_BT.split([6, 1, 1, 4, 5], dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(ids_BT), atol=2e-5, rtol=1e-4)
    assert cache.length == 17


def test_the_future_never_changes_the_past():
    model = random_model(SMALL)
    ids_BT = random_ids(SMALL, 1, 20)
    changed = ids_BT.clone()
    changed[0, 12:] = (changed[0, 12:] + 1) % SMALL.vocab_size
    with torch.no_grad():
        torch.testing.assert_close(model(ids_BT)[:, :12], model(changed)[:, :12], atol=0, rtol=0)


def test_masked_documents_equal_separate_passes():
    """Attention kept within documents gives each the logits it has alone (RoPE only sees distances)."""
    model = random_model(SMALL)
    eos = 0
    ids_BT = random_ids(SMALL, 1, 21)
    ids_BT[ids_BT == eos] = 5
    ids_BT[0, [7, 15]] = eos
    with torch.no_grad():
        together = model(ids_BT, document_ids_BT=document_ids(ids_BT, eos))
        alone = [model(piece) for piece in ids_BT.split([7, 8, 6], dim=1)]
    torch.testing.assert_close(together, torch.cat(alone, dim=1), atol=2e-5, rtol=1e-4)


def test_an_eos_opens_the_next_document():
    ids_BT = torch.tensor([[4, 5, 0, 6, 0, 0, 7]])
    assert document_ids(ids_BT, 0).tolist() == [[0, 0, 1, 1, 2, 3, 3]]


def test_token_nats_equal_a_slow_softmax():
    model = random_model(SMALL)
    ids_BT = random_ids(SMALL, 2, 9)
    targets_BT = random_ids(SMALL, 2, 9, seed=3)
    targets_BT[0, 4] = -100
    with torch.no_grad():
        nats = token_nats(model, ids_BT, targets_BT)
        log_probs = model(ids_BT).double().log_softmax(-1)
    for row in range(2):
        for place in range(9):
            target = int(targets_BT[row, place])
            expected = 0.0 if target == -100 else -float(log_probs[row, place, target])
            assert float(nats[row, place]) == pytest.approx(expected, abs=1e-5)


def test_rotation_keeps_lengths_and_depends_on_distance_alone():
    cos_TH, sin_TH = rotary_tables(SMALL)
    q, k = torch.randn(2, SMALL.head_dim, generator=torch.Generator().manual_seed(0))

    def score(q_place: int, k_place: int) -> float:
        rotated_q = rotate(q[None, None], cos_TH[q_place : q_place + 1], sin_TH[q_place : q_place + 1])
        rotated_k = rotate(k[None, None], cos_TH[k_place : k_place + 1], sin_TH[k_place : k_place + 1])
        assert rotated_q.norm() == pytest.approx(float(q.norm()), rel=1e-5)
        return float((rotated_q * rotated_k).sum())

    assert score(9, 4) == pytest.approx(score(25, 20), abs=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-4)


def test_no_mask_where_causal_attention_says_it_all():
    device = torch.device("cpu")
    assert attention_mask(0, 12, None, device=device) is None
    assert attention_mask(11, 1, None, device=device) is None
    mask = attention_mask(2, 3, None, device=device)
    assert mask is not None
    assert mask.int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_parameters_it_says(name):
    with torch.device("meta"):
        model = Llama(PRESETS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == PRESETS[name].num_parameters


def test_one_bijection_both_ways():
    for config in VARIANTS.values():
        model = random_model(config)
        tensors = to_hugging_face(config, model.state_dict())
        rebuilt = build_model(config, tensors, origin="test").state_dict()
        assert rebuilt.keys() == model.state_dict().keys()
        for name, tensor in model.state_dict().items():
            assert torch.equal(rebuilt[name], tensor), name
