"""Our models inside lm-eval: BLiMP to the same share, and every kind of request against a slow twin.

Files are made here and given to lm-eval as a data set of local JSON; nothing is fetched.
"""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pytest

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.evaluate.blimp import blimp, read_pairs
from stentor.evaluate.starting import Start
from stentor.evaluate.tasks import Settings, Task, run_task

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

WORDS = [
    "the",
    "people",
    "of",
    "this",
    "world",
    "have",
    "not",
    "been",
    "here",
    "when",
    "he",
    "was",
    "one",
    "then",
    "she",
    "said",
    "so",
]
TASK = """
task: pairs{number}
dataset_path: json
dataset_kwargs:
  data_files: {{train: {files}}}
  cache_dir: {cache}
output_type: multiple_choice
validation_split: train
doc_to_text: ""
doc_to_target: 0
doc_to_choice: "{{{{[sentence_good, sentence_bad]}}}}"
num_fewshot: 0
target_delimiter: "{delimiter}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture(scope="module")
def bridge():
    """Return the module, which takes seconds to import."""
    from stentor.evaluate import lm_eval

    return lm_eval


def requests(*arguments: tuple) -> list:
    return [SimpleNamespace(args=args) for args in arguments]


@pytest.fixture(scope="module")
def lm(bridge, model):
    return bridge.StentorLM(model)


@pytest.fixture
def blimp_files(tmp_path):
    """Return a folder of three paradigms of 60 pairs each."""
    generator = random.Random(0)
    for name in ("one", "two", "three"):
        lines = []
        for _ in range(60):
            words = [generator.choice(WORDS) for _ in range(6)]
            other = [*words]
            other[generator.randrange(6)] = generator.choice(WORDS)
            lines.append(
                json.dumps(
                    {
                        "sentence_good": " ".join(words),
                        "sentence_bad": " ".join(other) + (" so" if words == other else ""),
                        "field": "syntax",
                        "linguistics_term": "order",
                        "UID": name,
                    }
                )
            )
        write_file(tmp_path / "blimp" / f"{name}.jsonl", "\n".join(lines) + "\n")
    return tmp_path / "blimp"


@pytest.mark.parametrize(("start", "space"), [("eos", True), ("bos", False)])
def test_its_blimp_is_ours_to_a_tenth_of_a_point(bridge, model, blimp_files, tmp_path, start, space):
    text = TASK.format(
        number=int(space), files=blimp_files / "*.jsonl", cache=tmp_path / "cache", delimiter=" " * space
    )
    write_file(tmp_path / "task.yaml", text)
    theirs = run_task(model, Task("lm-eval", str(tmp_path / "task.yaml")), Settings(Start(start)))
    ours = blimp(model, read_pairs(blimp_files), start=Start(start), space=space)
    assert theirs["start"] == start
    assert theirs["tasks"][f"pairs{int(space)}"]["acc"] == pytest.approx(ours.overall.accuracy, abs=0.001)
    assert theirs["version"]


def test_log_likelihoods_are_those_of_the_slow_twin(lm, model, log_probs_of):
    asked = [("the people", " of this"), ("the people", " world"), ("", "When he"), ("so ", "she")]
    found = lm.loglikelihood(requests(*asked))
    eos, encode = model.tokenizer.eos_token_id, model.tokenizer.encode
    for (context, continuation), (log_prob, is_greedy) in zip(asked, found, strict=True):
        context_ids = encode(context.rstrip())
        ids = encode(context + continuation)[len(context_ids) :]
        assert log_prob == pytest.approx(sum(log_probs_of(model, [eos, *context_ids], ids)), abs=1e-4)
        assert isinstance(is_greedy, bool)
    assert lm.loglikelihood([]) == []


@pytest.mark.parametrize("text", ["a", "the people of this world", "The people have not been here. " * 20, ""])
def test_rolling_likelihoods_score_each_token_once_with_all_that_fits_before_it(lm, model, log_probs_of, text):
    ids, length = model.tokenizer.encode(text), lm.max_length
    stream, expected = [model.tokenizer.eos_token_id, *ids], 0.0
    for place in range(len(ids)):
        window_end = min((place // length + 1) * length, len(ids))
        first = max(0, window_end - length)
        expected += log_probs_of(model, stream[first : place + 1], [ids[place]])[0]
    (found,) = lm.loglikelihood_rolling(requests((text,)))
    assert found == pytest.approx(expected, abs=1e-3)


def test_rolling_windows_are_those_of_lm_eval(bridge):
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    for count in (0, 1, 7, 8, 9, 16, 17, 30):
        ids = list(range(100, 100 + count))
        theirs = [make_disjoint_window(window) for window in get_rolling_token_windows(ids, 1, 8, 1)]
        ours = [(list(q.context), list(q.options[0])) for q in bridge.rolling_questions(ids, 1, 8)]
        assert ours == [(list(context), list(ids)) for context, ids in theirs]


def test_generation_is_greedy_and_ends_before_a_stop(lm, model):
    plain, stopped, several = lm.generate_until(
        requests(
            ("the people", {"until": [], "max_gen_toks": 8}),
            ("the people", {"until": ["e"], "max_gen_toks": 20}),
            ("the people", {"until": "e", "max_gen_toks": 20}),
        )
    )
    ids = [model.tokenizer.eos_token_id, *model.tokenizer.encode("the people")]
    expected = model.generate(ids, max_new_tokens=8, temperature=0, top_p=1, repetition_penalty=1)
    assert plain == expected
    assert "e" not in stopped
    assert stopped == several


def test_a_long_context_is_cut_to_leave_room(lm):
    (made,) = lm.generate_until(requests(("the people of this world " * 30, {"max_gen_toks": 5})))
    assert isinstance(made, str)
    (made,) = lm.generate_until(requests(("so", {"max_gen_toks": 5000, "do_sample": True, "temperature": 0.7})))
    assert isinstance(made, str)


def test_a_path_is_opened_and_the_start_is_part_of_the_name(bridge, model_path, lm):
    other = bridge.StentorLM(model_path, start="none")
    assert other.tokenizer_name != lm.tokenizer_name
    assert other.max_length == 48
    assert (lm.rank, lm.world_size) == (0, 1)
    with pytest.raises(UserError, match="there is no start 'x'"):
        bridge.StentorLM(model_path, start="x")


@pytest.mark.slow
def test_an_unknown_task_is_refused_with_the_nearest_name(model):
    with pytest.raises(UserError, match="lm-eval has no task 'blimp_adjunct_islan'") as caught:
        run_task(model, Task("lm-eval", "blimp_adjunct_islan"), Settings())
    assert "did you mean 'blimp_adjunct_island'" in caught.value.fix


def test_a_task_without_its_data_is_one_sentence(bridge, model, tmp_path):
    text = TASK.format(number=9, files=tmp_path / "none.jsonl", cache=tmp_path / "cache", delimiter="")
    write_file(tmp_path / "task.yaml", text)
    with pytest.raises(UserError, match="lm-eval cannot run") as caught:
        bridge.run_lm_eval(model, [str(tmp_path / "task.yaml")])
    assert "\n" not in caught.value.message
    assert "its data must be on this machine" in caught.value.fix
