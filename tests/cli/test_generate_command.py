"""stentor generate: the text alone on stdout, numbers on stderr, and what is refused."""

from __future__ import annotations

import dataclasses
import inspect
import io
import os
import subprocess
import sys

import pytest

import stentor
from stentor.runtime.dtypes import CACHE_DTYPES, DTYPES
from stentor.runtime.engine import LanguageModel
from stentor.runtime.sampling import Sampling

PROMPT = "A cat saw"
SETTINGS = {
    "min_new_tokens": 3,
    "temperature": 0.5,
    "top_k": 7,
    "top_p": 0.9,
    "min_p": 0.01,
    "typical_p": 0.95,
    "repetition_penalty": 1.5,
    "presence_penalty": 0.25,
    "frequency_penalty": -0.5,
}


@pytest.fixture(scope="module")
def model(world):
    return stentor.load(world.run)


def test_stdout_is_the_continuation_and_nothing_else(cli, world, model):
    outcome = cli("generate", PROMPT, "--model", world.run, "--max-new-tokens", 12, "--seed", 3)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == model.generate(PROMPT, max_new_tokens=12, seed=3) + "\n"


def test_settings_reach_the_model(cli, world, model):
    options = [part for name, value in SETTINGS.items() for part in (f"--{name.replace('_', '-')}", value)]
    flags = ["--stop", ".", "--stop", " the", "--logit-bias", "7=2.5", "--logit-bias", "%=-inf", "--ignore-eos"]
    outcome = cli("generate", PROMPT, "--model", world.run, *options, *flags)
    biases = {7: 2.5, **{token_id: float("-inf") for token_id in model.tokenizer.encode("%")}}
    expected = model.generate(PROMPT, stop=[".", " the"], logit_bias=biases, ignore_eos=True, **SETTINGS)
    assert outcome.out == expected + "\n"


@pytest.mark.parametrize("name", [*SETTINGS, "ignore_eos", "logit_bias"])
def test_each_setting_reaches_the_model(cli, world, monkeypatch, name):
    """Each alone: in a text that several change together, one that is left out may not show."""
    seen = {}
    monkeypatch.setattr(LanguageModel, "stream", lambda self, prompt, stats, **options: seen.update(options) or [])
    value = {**SETTINGS, "logit_bias": "7=2.5"}.get(name)
    cli("generate", PROMPT, "--model", world.run, f"--{name.replace('_', '-')}", *([] if value is None else [value]))
    assert seen.pop(name) == {**SETTINGS, "logit_bias": {7: 2.5}, "ignore_eos": True}[name]
    defaults = {field.name: getattr(Sampling(), field.name) for field in dataclasses.fields(Sampling)}
    assert seen == {key: {**defaults, "max_new_tokens": 50, "stop": (), "seed": 0, "draft": None}[key] for key in seen}
    assert {name, *seen} >= {*defaults}


def test_without_a_model_the_one_that_ships_answers(cli):
    options = ("--max-new-tokens", 8, "--seed", 1)
    answer = cli("generate", "The moon is", *options)
    assert answer.code == 0
    assert answer.out == cli("generate", "The moon is", "--model", "stentor-12m", *options).out
    assert len(answer.out) > 8


def test_json_holds_the_text_and_what_it_cost(cli, world, model):
    value = cli("generate", PROMPT, "--model", world.run, "--max-new-tokens", 9, "--temperature", 0, "--json").value
    (completion,) = value["completions"]
    assert completion["text"] == model.generate(PROMPT, max_new_tokens=9, temperature=0)
    assert (completion["num_prompt_tokens"], completion["num_new_tokens"]) == (len(model.tokenizer.encode(PROMPT)), 9)
    assert len(completion["token_ids"]) == 9
    assert completion["finish_reason"] == "max_new_tokens"
    assert completion["tokens_per_second"] > 0
    assert completion["prefill_seconds"] > 0
    assert completion["decode_seconds"] > 0
    assert "log_probs" not in completion


def test_json_holds_several_continuations_with_log_probabilities(cli, world, model):
    options = ["--max-new-tokens", 6, "--seed", 4, "--n", 3, "--logprobs", 5, "--json"]
    value = cli("generate", PROMPT, "--model", world.run, *options).value
    expected = model.complete(PROMPT, n=3, logprobs=5, max_new_tokens=6, seed=4)
    for ours, completion in zip(value["completions"], expected, strict=True):
        assert (ours["text"], ours["token_ids"]) == (completion.text, completion.token_ids)
        assert ours["log_probs"] == completion.log_probs
        for top, tokens in zip(ours["top_alternatives"], completion.top_alternatives, strict=True):
            assert [(token["token_id"], token["log_prob"]) for token in top] == tokens
            texts = [model.tokenizer.token_bytes(token.token_id).decode(errors="replace") for token in tokens]
            assert [token["text"] for token in top] == texts


def test_several_continuations_have_a_line_between_them(cli, world, model):
    outcome = cli("generate", PROMPT, "--model", world.run, "--max-new-tokens", 6, "--n", 3, "--stats")
    texts = [completion.text for completion in model.complete(PROMPT, n=3, max_new_tokens=6)]
    assert outcome.out == "\n---\n".join(texts) + "\n"
    assert outcome.err.count("6 tokens in ") == 3


def test_stats_are_on_stderr(cli, world):
    outcome = cli("generate", PROMPT, "--model", world.run, "--max-new-tokens", 5, "--stats")
    assert outcome.err.startswith("5 tokens in ")
    assert "tokens/s" in outcome.err
    assert "ended by max_new_tokens" in outcome.err
    assert "tokens/s" not in outcome.out


@pytest.mark.parametrize(("data", "prompt"), [(b"A cat saw", "A cat saw"), (b"caf\xc3\xa9 \xff", "caf\u00e9 \ufffd")])
def test_a_dash_reads_the_prompt_from_stdin_whatever_its_bytes(cli, world, model, monkeypatch, data, prompt):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    outcome = cli("generate", "-", "--model", world.run, "--max-new-tokens", 6)
    assert outcome.out == model.generate(prompt, max_new_tokens=6) + "\n"


def test_an_empty_prompt_begins_a_document(cli, world, model):
    assert cli("generate", "", "--model", world.run).out == model.generate("") + "\n"


def test_a_prompt_that_is_no_text_is_read_as_the_tokenizer_reads_it(cli, world, model):
    assert cli("generate", "A \udcff cat", "--model", world.run).out == model.generate("A ? cat") + "\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-new-tokens", "0"], "max_new_tokens is 0"),
        (["--temperature", "-1"], "temperature is -1"),
        (["--temperature", "nan"], "temperature is nan"),
        (["--top-k", "-1"], "top_k is -1"),
        (["--top-p", "0"], "top_p is 0"),
        (["--min-p", "2"], "min_p is 2"),
        (["--repetition-penalty", "0"], "repetition_penalty is 0"),
        (["--seed", "-1"], "seed is -1"),
        (["--typical-p", "0"], "typical_p is 0"),
        (["--presence-penalty", "101"], "presence_penalty is 101"),
        (["--frequency-penalty", "nan"], "frequency_penalty is nan"),
        (["--min-new-tokens", "51"], "min_new_tokens is 51, more than max_new_tokens"),
        (["--logit-bias", "99999=1"], "the token id 99999 is outside the vocabulary"),
        (["--logit-bias", "5=inf"], "logit_bias of token 5 is inf"),
        (["--n", "0"], "n is 0"),
    ],
)
@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_settings_out_of_range_are_refused(cli, world, options, said, flag):
    cli("generate", PROMPT, "--model", world.run, *options, *flag).fails(3, said, "fix: ")


def test_log_probabilities_beside_plain_text_are_refused(cli, world):
    cli("generate", PROMPT, "--model", world.run, "--logprobs", 2).fails(2, "--logprobs", "fix: add --json")


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(cli, world, model):
    prompt = "a cat saw the moon. " * 20
    num_tokens = len(model.tokenizer.encode(prompt))
    cli("generate", prompt, "--model", world.run).fails(
        3, f"the prompt has {num_tokens} tokens, the model's context holds 32"
    )


def test_a_model_that_is_none_is_refused(cli, tmp_path):
    cli("generate", PROMPT, "--model", tmp_path / "nowhere").fails(3, "there is no model")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX pipes")
def test_a_reader_that_leaves_early_gets_no_traceback(world):
    code = "from stentor.cli.main import main; main()"
    options = ["--model", str(world.run), "--max-new-tokens", "20", "--seed", "3"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "generate", PROMPT, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    assert len(os.read(process.stdout.fileno(), 1)) == 1
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert err == b""


# --- the engine ---

WITHOUT_TORCH = """
import sys
absent = ("torch", "transformers", "gguf", "huggingface_hub", "datasets", "pyarrow", "matplotlib")
for name in absent:
    sys.modules[name] = None  # importing it raises ImportError
from stentor.cli.main import main
main()
"""


def without_torch(*arguments: object) -> str:
    """Run the command line where the base install is all there is; returns stdout."""
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_text_is_made_with_the_base_install_alone(world, model):
    out = without_torch("generate", PROMPT, "--model", world.run, "--max-new-tokens", 9, "--seed", 2)
    assert out == model.generate(PROMPT, max_new_tokens=9, seed=2) + "\n"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cache_dtype", CACHE_DTYPES)
def test_options_of_the_engine_reach_it(cli, world, dtype, cache_dtype):
    options = ["--max-new-tokens", 20, "--dtype", dtype, "--cache-dtype", cache_dtype, "--threads", 2]
    expected = stentor.load(world.run, dtype=dtype, cache_dtype=cache_dtype).generate(PROMPT, max_new_tokens=20)
    assert cli("generate", PROMPT, "--model", world.run, *options).out == expected + "\n"


def test_defaults_of_the_command_are_those_of_load(cli, world, monkeypatch):
    seen, signature = {}, inspect.signature(stentor.load)

    def opened(model, *, on_compiling, **options):
        seen.update(options)
        return 1 / 0

    monkeypatch.setattr("stentor.runtime.open.open_network", opened)
    cli("generate", PROMPT, "--model", world.run)
    assert seen == {name: signature.parameters[name].default for name in seen}
    assert len(seen) == len(signature.parameters) - 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dtype", "int3"], "there is no dtype 'int3'"),
        (["--cache-dtype", "bf16"], "there is no cache_dtype 'bf16'"),
        (["--threads", 0], "num_threads is 0"),
        (["--device", "tpu"], "there is no device 'tpu'"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "evaluate"])
def test_what_the_engine_does_not_know_is_refused(cli, world, command, options, said):
    arguments = [PROMPT, "--model", world.run] if command == "generate" else [world.run, world.text]
    cli(command, *arguments, *options).fails(3, said, "fix: ")


def test_ctrl_c_in_the_middle_leaves_the_text_so_far(cli, world, monkeypatch):
    def pieces(self, prompt, **options):
        yield "so f"
        yield "ar"
        raise KeyboardInterrupt

    monkeypatch.setattr(LanguageModel, "stream", pieces)
    outcome = cli("generate", PROMPT, "--model", world.run)
    assert (outcome.code, outcome.out) == (130, "so far")
    assert "Traceback" not in outcome.err
