"""stentor generate --draft: the same text, what it says of the draft, and what is refused."""

from __future__ import annotations

import pytest
import transformers

import stentor
from stentor.cli.draft_options import drafting_of
from stentor.runtime.speculative.drafting import Drafting
from stentor.tokenizer.bpe import train_bpe

PROMPT = "A cat saw"
GREEDY = ["--temperature", 0, "--max-new-tokens", 20]


@pytest.fixture(scope="module")
def model(world):
    return stentor.load(world.run)


@pytest.fixture(scope="module")
def other(tmp_path_factory, prose_documents):
    """Return the folder of a model that only transformers knows, with another vocabulary."""
    path = tmp_path_factory.mktemp("other") / "gpt2"
    tokenizer = train_bpe(prose_documents(60), vocab_size=300)
    sizes = transformers.GPT2Config(
        vocab_size=300, n_embd=16, n_layer=1, n_head=2, n_positions=60, bos_token_id=1, eos_token_id=0
    )
    transformers.GPT2LMHeadModel(sizes).save_pretrained(path)
    for name, data in tokenizer.files().items():
        (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize("method", ["auto", "tokens", "text", "lookup"])
def test_greedy_text_is_the_same(cli, world, model, method):
    draft = [] if method == "lookup" else ["--draft", world.run]
    outcome = cli("generate", PROMPT, "--model", world.run, *draft, "--draft-method", method, *GREEDY)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == model.generate(PROMPT, temperature=0, max_new_tokens=20) + "\n"


@pytest.mark.parametrize("method", ["auto", "intersection", "text"])
def test_a_draft_of_transformers_with_another_vocabulary(cli, world, model, other, method):
    draft = ["--draft", f"transformers:{other}", "--draft-method", method]
    outcome = cli("generate", PROMPT, "--model", world.run, *draft, *GREEDY, "--stats")
    assert outcome.out == model.generate(PROMPT, temperature=0, max_new_tokens=20) + "\n"
    assert "draft by " in outcome.err
    if method == "auto":
        assert "(the model knows " in outcome.err


def test_a_target_of_transformers(cli, other):
    options = ["--model", f"transformers:{other}", *GREEDY]
    plain = cli("generate", PROMPT, *options)
    assert plain.code == 0, plain.err
    assert cli("generate", PROMPT, *options, "--draft", "lookup").out == plain.out
    assert cli("generate", PROMPT, *options, "--draft", f"transformers:{other}").out == plain.out


def test_stats_say_how_the_draft_did_and_why_by_this_method(cli, world):
    draft = ["--draft", world.run, "--draft-tokens", 4]
    outcome = cli("generate", PROMPT, "--model", world.run, *draft, *GREEDY, "--stats", "--ignore-eos")
    said = "draft by tokens (draft and model have the same vocabulary): 100% of the judged tokens kept, 5.00 tokens"
    assert said in outcome.err


def test_json_holds_how_the_draft_did(cli, world):
    options = ["--model", world.run, *GREEDY, "--json"]
    value = cli("generate", PROMPT, *options, "--draft", "lookup").value["completions"][0]["draft"]
    assert value["method"] == "lookup"
    assert set(value) >= {"num_passes", "num_proposed", "num_kept", "acceptance_rate", "tokens_per_pass", "mean_length"}
    assert cli("generate", PROMPT, *options).value["completions"][0]["draft"] is None


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--draft-method", "text"], 2, "there are settings for a draft, and no draft"),
        (["--draft-tokens", 3], 2, "there are settings for a draft, and no draft"),
        (["--draft", "lookup", "--draft-method", "text"], 3, "the method text does not go with a lookup"),
        (["--draft", "lookup", "--draft-method", "txt"], 3, "there is no draft method 'txt'"),
        (["--draft", "lookup", "--draft-tokens", 0], 3, "0 tokens cannot be drafted at a time"),
        (["--draft", "nowhere"], 3, "there is no model nowhere"),
        (["--draft", "transformers:nowhere/at-all"], 3, "transformers opens no causal language model at nowhere"),
    ],
)
def test_what_cannot_be_done_is_refused(cli, world, monkeypatch, options, code, said):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cli("generate", PROMPT, "--model", world.run, *options).fails(code, said)


def test_tokens_of_another_vocabulary_are_refused(cli, world, other):
    draft = ["--draft", f"transformers:{other}", "--draft-method", "tokens"]
    said = "the method tokens needs one vocabulary: the model knows "
    cli("generate", PROMPT, "--model", world.run, *draft).fails(3, said)


def test_options_become_a_drafting(world):
    assert drafting_of(None, "auto", None) is None
    assert isinstance(drafting_of("lookup", "auto", None), Drafting)
    made = drafting_of(str(world.run), "text", 5, dtype="float32")
    assert made is not None
    assert made.length.choose() == 5
