"""Models of transformers behind our protocol: the logits of a fresh pass, whatever was read and taken back before."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from stentor.errors import CorruptArtifactError, UserError
from stentor.runtime.engine import load
from stentor.runtime.transformers_network import TransformersNetwork, open_transformers
from stentor.tokenizer.transformers_tokenizer import open_transformers_tokenizer

SIZES: dict[str, Any] = {"vocab_size": 60, "num_attention_heads": 2, "num_hidden_layers": 2, "hidden_size": 16}
KINDS = {
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SIZES, intermediate_size=32, max_position_embeddings=40)
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=40)
    ),
    "gpt_neox": lambda: transformers.GPTNeoXForCausalLM(
        transformers.GPTNeoXConfig(**SIZES, intermediate_size=32, max_position_embeddings=40)
    ),
    "a sliding window": lambda: transformers.MistralForCausalLM(
        transformers.MistralConfig(
            **SIZES, num_key_value_heads=2, intermediate_size=32, max_position_embeddings=40, sliding_window=4
        )
    ),
}


@pytest.fixture(scope="module", params=KINDS.values(), ids=list(KINDS))
def model(request):
    torch.manual_seed(0)
    made = request.param().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)
    return made


def logits_of(model, token_ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor([token_ids])).logits[0].numpy()


def test_sizes_are_the_models(model):
    config = TransformersNetwork(model).config
    assert (config.vocab_size, config.max_position_embeddings) == (60, 40)


def test_reading_back_and_forth_gives_the_logits_of_a_fresh_pass(model):
    network, generator, read = TransformersNetwork(model), np.random.default_rng(0), []
    for _ in range(25):
        start = int(generator.integers(0, len(read) + 1))
        more = generator.integers(0, 60, min(40 - start, int(generator.integers(1, 6)))).tolist()
        if not more:
            continue
        read[start:] = more
        all_scored = bool(generator.integers(2))
        made = network.extend(more, start, all_scored=all_scored)
        expected = logits_of(model, read)[start:] if all_scored else logits_of(model, read)[-1:]
        np.testing.assert_allclose(made, expected, atol=2e-5)
        assert made.dtype == np.float32


def test_a_fresh_network_has_read_nothing(model):
    network = TransformersNetwork(model)
    network.extend([1, 2, 3], 0)
    np.testing.assert_array_equal(network.fresh().extend([7], 0), logits_of(model, [7]))
    np.testing.assert_allclose(network.extend([4], 3), logits_of(model, [1, 2, 3, 4])[-1:], atol=2e-5)


def test_a_folder_is_opened_and_proven(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    network = open_transformers(tmp_path / "model")
    np.testing.assert_allclose(network.extend([1, 2], 0), logits_of(model, [1, 2])[-1:], atol=1e-5)


def test_what_transformers_does_not_open_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no such model"}))
    with pytest.raises(UserError, match="transformers opens no causal language model at") as caught:
        open_transformers(tmp_path)
    assert str(caught.value).count("\n") == 1  # before its fix


def test_a_model_that_cannot_take_tokens_back_is_refused(tmp_path):
    torch.manual_seed(0)
    sizes = transformers.MambaConfig(vocab_size=60, hidden_size=16, state_size=4, num_hidden_layers=2)
    transformers.MambaForCausalLM(sizes).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="cannot take tokens back"):
        open_transformers(tmp_path)


def test_a_cache_that_forgets_too_little_is_noticed(model):
    class Forgetful(TransformersNetwork):
        def fresh(self, num_sequences: int = 1):
            return Forgetful(self._model)

        def extend(self, token_ids, start, **options):
            return super().extend(token_ids, self._caches[0].get_seq_length(), **options)

    assert TransformersNetwork(model).can_take_back()
    assert not Forgetful(model).can_take_back()


def test_several_sequences_begin_alike_and_go_their_ways(model):
    network = TransformersNetwork(model).fresh(3)
    network.extend([1, 2, 3], 0)
    network.share(2)
    made = network.extend_each([4, 5, 6], [2, 2, 2], [0, 1, 2])
    for row, token_id in zip(made, [4, 5, 6], strict=True):
        np.testing.assert_allclose(row, logits_of(model, [1, 2, token_id])[-1], atol=2e-5)
    np.testing.assert_allclose(network.extend([7], 3, sequence=1)[0], logits_of(model, [1, 2, 5, 7])[-1], atol=2e-5)


def test_scores_are_those_of_a_pass(model):
    inputs, targets = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[2, 3, 9], [5, 6, 7]])
    nats_BT = TransformersNetwork(model).window_nats(inputs, targets)
    for row, (ids, wanted) in enumerate(zip(inputs.tolist(), targets.tolist(), strict=True)):
        log_probs = torch.from_numpy(logits_of(model, ids)).double().log_softmax(-1).numpy()
        np.testing.assert_allclose(nats_BT[row], -log_probs[np.arange(3), wanted], atol=1e-5)


def test_places_that_do_not_matter_are_no_trouble(model):
    """The last window of a text is filled up with targets that are ignored."""
    inputs, targets = np.array([[1, 2, 3], [4, 0, 0]]), np.array([[2, 3, 9], [5, -100, -100]])
    nats_BT = TransformersNetwork(model).window_nats(inputs, targets)
    whole = TransformersNetwork(model).window_nats(inputs, np.abs(targets) % 60)
    np.testing.assert_array_equal(nats_BT[targets >= 0], whole[targets >= 0])


def test_ids_and_positions_that_do_not_exist_are_refused(model):
    with pytest.raises(UserError, match="the token id 60 is outside"):
        TransformersNetwork(model).extend([60], 0)
    with pytest.raises(UserError, match="position 40 is outside"):
        TransformersNetwork(model).extend([1] * 41, 0)


def test_a_context_that_is_nowhere_stated_is_long(model):
    class Silent:
        config = dataclasses.make_dataclass("Config", [("vocab_size", int)])(60)
        forward = model.forward

    assert TransformersNetwork(Silent()).config.max_position_embeddings > 10**5  # pyright: ignore[reportArgumentType]


# --- with its tokenizer ---


def folder_of(path, tokenizer, vocab_size: int):
    """Write a model and a tokenizer, and return the name that opens both through transformers."""
    sizes = transformers.GPT2Config(
        vocab_size=vocab_size, n_embd=16, n_layer=1, n_head=2, n_positions=40, bos_token_id=1, eos_token_id=0
    )
    torch.manual_seed(1)
    transformers.GPT2LMHeadModel(sizes).save_pretrained(path)
    for name, data in tokenizer.files().items():
        (path / name).write_bytes(data)
    return f"transformers:{path}"


def test_a_model_writes_what_transformers_itself_writes(tiny_tokenizer, tmp_path):
    name = folder_of(tmp_path, tiny_tokenizer, 320)
    theirs: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([tiny_tokenizer.encode("The people who")])
    with torch.no_grad():
        made = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    ours = load(name)
    expected = tiny_tokenizer.decode(made[0, ids.shape[1] :].tolist())
    assert ours.generate("The people who", max_new_tokens=12, temperature=0, repetition_penalty=1) == expected
    texts = [completion.text for completion in ours.complete("The people who", n=3, max_new_tokens=8)]
    assert len(set(texts)) == 3
    assert texts[0] == ours.generate("The people who", max_new_tokens=8)
    assert len(ours.score("The people who were").log_probs) == len(tiny_tokenizer.encode("The people who were"))


def test_rows_that_pad_the_vocabulary_are_never_drawn(tiny_tokenizer, tmp_path):
    model = load(folder_of(tmp_path, tiny_tokenizer, 700))
    options = {"max_new_tokens": 30, "temperature": 9.0, "top_p": 1.0, "repetition_penalty": 1.0}
    for draft in (None, "lookup", model):
        (completion,) = model.complete("The people", draft=draft, **options)
        assert max(completion.token_ids) < 320


def test_a_tokenizer_of_more_ids_than_the_model_is_refused(tiny_tokenizer, tmp_path):
    with pytest.raises(UserError, match="the tokenizer has 320 tokens but the model"):
        load(folder_of(tmp_path, tiny_tokenizer, 300))


# --- damaged folders ---


def without_tensor(path, name: str) -> None:
    save_file({key: t for key, t in load_file(path).items() if key != name}, path, metadata={"format": "pt"})


@pytest.fixture
def folder(tiny_tokenizer, tmp_path):
    folder_of(tmp_path / "model", tiny_tokenizer, 320)
    return tmp_path / "model"


def test_a_tensor_that_is_missing_is_not_filled_with_random_numbers(folder):
    without_tensor(folder / "model.safetensors", "transformer.h.0.attn.c_attn.weight")
    with pytest.raises(
        UserError, match=r"not the whole model: 1 missing, such as transformer\.h\.0\.attn\.c_attn\.weight"
    ):
        open_transformers(folder)


def test_a_tensor_of_another_shape_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.ln_f.weight"] = torch.ones(17)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError):
        open_transformers(folder)


def test_weights_that_are_no_numbers_are_refused_by_name(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.ln_f.weight"][3] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"transformer\.ln_f\.weight at .* holds NaN"):
        open_transformers(folder)


def test_a_pickle_is_never_opened(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="transformers opens no causal language model at"):
        open_transformers(folder)


@pytest.mark.parametrize("damage", [b"", b"\0" * 99, b"\xff" * 99])
def test_damaged_weights_are_refused_in_one_sentence(folder, damage):
    (folder / "model.safetensors").write_bytes(damage)
    with pytest.raises(UserError, match="transformers opens no causal language model at") as caught:
        open_transformers(folder)
    assert "\n" not in caught.value.message


def test_an_index_that_leads_out_of_the_folder_is_not_followed(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder.parent / "away.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, "../away.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="which is no file beside it"):
        open_transformers(folder)


def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about(folder):
    table = json.loads((folder / "config.json").read_bytes())
    table |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(table))
    (folder / "mine.py").write_text("raise SystemExit(7)")
    with pytest.raises(UserError, match="transformers opens no causal language model at"):
        open_transformers(folder)


def test_a_damaged_tokenizer_is_not_opened_in_another_way(tiny_tokenizer, tmp_path):
    tiny_tokenizer.save(tmp_path / "sealed")
    path = tmp_path / "sealed" / "tokenizer.json"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(CorruptArtifactError, match="does not match its checksum"):
        open_transformers_tokenizer(tmp_path / "sealed")
