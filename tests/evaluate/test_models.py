"""Models on equal terms: ours, and those of transformers, one of which stands for Pythia and one for TinyStories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from stentor.errors import UserError
from stentor.evaluate.models import MeasuredModel, measure_model, unequal_terms
from stentor.evaluate.starting import Start, TextQuestion, score_texts
from stentor.evaluate.tasks import Settings, parse_task
from stentor.evaluate.text import evaluate
from stentor.runtime.engine import load

EOS = "<|endoftext|>"
TEXTS = ["The people of this world.", "When he was one, then she said so. " * 9, ""]
SPECIALS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0}


def make(folder: Path, network: transformers.PreTrainedModel, documents: list[str]) -> str:
    """Write a model with a byte-level BPE learned from some documents; return its name for Stentor."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(documents, trainer)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(4)
    network.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, bos_token=EOS).save_pretrained(
        folder
    )
    return f"transformers:{folder}"


@pytest.fixture(scope="module")
def neox(tmp_path_factory, prose_documents) -> str:
    torch.manual_seed(0)
    config = transformers.GPTNeoXConfig(
        vocab_size=304, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=40, **SPECIALS,
    )  # fmt: skip
    return make(tmp_path_factory.mktemp("hf") / "neox", transformers.GPTNeoXForCausalLM(config), prose_documents(40))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, prose_documents) -> str:
    torch.manual_seed(1)
    config = transformers.GPT2Config(vocab_size=300, n_embd=16, n_layer=2, n_head=2, n_positions=30, **SPECIALS)
    return make(tmp_path_factory.mktemp("hf") / "gpt2", transformers.GPT2LMHeadModel(config), prose_documents(20))


def slow_bits(name: str, texts: list[str]) -> float:
    """Read windows of the context with transformers itself."""
    folder = name.removeprefix("transformers:")
    network = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = [0]
    for text in texts:
        ids += [*tokenizer(text, add_special_tokens=False)["input_ids"], 0]
    length, total = network.config.max_position_embeddings, 0.0
    for start in range(0, len(ids) - 1, length):
        window = torch.tensor(ids[start : start + length + 1])
        with torch.no_grad():
            log_probs_TV = network(window[None, :-1]).logits[0].double().log_softmax(-1)
        total -= float(log_probs_TV.gather(-1, window[1:, None]).sum())
    return total / torch.log(torch.tensor(2.0)).item() / sum(len(text.encode()) for text in texts)


@pytest.mark.parametrize("kind", ["neox", "gpt2"])
def test_any_causal_model_has_the_bits_that_transformers_gives_it(kind, request):
    name = request.getfixturevalue(kind)
    found = measure_model(load(name), name, texts=TEXTS)
    assert found.evaluation is not None
    assert found.evaluation.bits_per_byte == pytest.approx(slow_bits(name, TEXTS), rel=1e-5)
    folder = name.removeprefix("transformers:")
    assert found.num_parameters == transformers.AutoModelForCausalLM.from_pretrained(folder).num_parameters()


@pytest.mark.parametrize("kind", ["neox", "gpt2"])
def test_its_options_are_those_of_a_slow_twin(kind, request, log_probs_of):
    model = load(request.getfixturevalue(kind))
    questions = [
        TextQuestion("the people", [" of", " of this world", ""]),
        TextQuestion("a " * 60, ["one", "some two"]),
    ]
    scores, num_cut = score_texts(model, questions, Start())
    assert num_cut == 1
    ids = model.tokenizer.encode("the people of this world")[len(model.tokenizer.encode("the people")) :]
    expected = log_probs_of(model, [0, *model.tokenizer.encode("the people")], ids)
    assert scores[0].log_probs[1] == pytest.approx(sum(expected), abs=1e-4)
    assert scores[0].log_probs[2] == 0


def test_our_engine_and_transformers_measure_the_same(model, model_path):
    ours = measure_model(model, "ours", texts=TEXTS)
    theirs = measure_model(load(f"transformers:{model_path}"), "theirs", texts=TEXTS)
    assert ours.evaluation is not None
    assert theirs.evaluation is not None
    assert theirs.evaluation.bits_per_byte == pytest.approx(ours.evaluation.bits_per_byte, rel=1e-5)
    assert theirs.num_parameters == ours.num_parameters
    questions = [TextQuestion("the people", [" of", " of this world"]), TextQuestion("", ["When he"])]
    for start in ("eos", "none"):
        found = [score_texts(one, questions, Start(start))[0] for one in (model, load(f"transformers:{model_path}"))]
        for mine, other in zip(*found, strict=True):
            assert mine.log_probs == pytest.approx(other.log_probs, abs=1e-3)
            assert mine.are_greedy == other.are_greedy


def test_the_numbers_have_documented_names(model, write_lines):
    path = write_lines("choice.jsonl", {"query": "the", "choices": ["people", "of"], "gold": 0})
    found = measure_model(model, "ours", texts=TEXTS, tasks=[parse_task(f"choice={path}")], settings=Settings())
    value = json.loads(json.dumps(found.to_dict()))
    assert value["model"] == "ours"
    assert value["bytes_per_token"] == pytest.approx(value["num_bytes"] / value["num_tokens"])
    assert value["bits_per_byte"] == evaluate(model, TEXTS).bits_per_byte
    assert value["tasks"][0]["task"] == "choice"
    assert (value["vocab_size"], value["context_length"]) == (320, 48)
    without = measure_model(model, "ours").to_dict()
    assert without["bytes_per_token"] is None
    assert "bits_per_byte" not in without


def test_unequal_terms_are_said(model):
    ours = measure_model(model, "ours", texts=TEXTS)
    longer = MeasuredModel("b", 1, 320, 96, ours.evaluation, [])
    other = MeasuredModel("c", 1, 400, 48, ours.evaluation, [])
    assert unequal_terms([ours, ours]) == []
    assert "contexts differ" in unequal_terms([ours, longer])[0]
    assert "compare bits per byte" in unequal_terms([ours, other])[0]
    assert unequal_terms([MeasuredModel("a", 1, 320, 48, None, []), MeasuredModel("c", 1, 400, 48, None, [])]) == []


def test_lost_bytes_are_said(model, tiny_tokenmonster):
    from stentor.runtime.engine import LanguageModel

    lossy = measure_model(LanguageModel(model.network, tiny_tokenmonster), "lossy", texts=["of\x00 it"])
    assert "drops bytes" in unequal_terms([lossy])[0]


def test_a_model_of_another_kind_is_told_how_it_opens(gpt2):
    with pytest.raises(UserError, match="describes a 'gpt2' model") as caught:
        load(gpt2.removeprefix("transformers:"))
    assert "transformers:MODEL opens any other" in caught.value.fix
