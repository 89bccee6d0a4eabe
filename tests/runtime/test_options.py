"""Options after a context: the sums of a slow twin, on every kind of network, whatever their company."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Parrot, on_cpu, random_llama

from stentor.errors import UserError
from stentor.model.labels import IGNORED_LABEL
from stentor.runtime import options
from stentor.runtime.options import OptionScores, Question, fitted, score_options, target_scores
from stentor.runtime.torch_network import TorchNetwork, scores_of

IDS = st.integers(0, 383)
QUESTIONS = st.lists(
    st.builds(Question, st.lists(IDS, min_size=1, max_size=12), st.lists(st.lists(IDS, max_size=7), max_size=4)),
    max_size=7,
)


@pytest.fixture(scope="module")
def llama(tiny_config):
    return random_llama(dataclasses.replace(tiny_config, max_position_embeddings=90))


@pytest.fixture(scope="module")
def cpu(llama):
    return on_cpu(llama, num_threads=1, max_threads=2)


class Plain:
    """A network with the methods of the protocol alone."""

    def __init__(self, network):
        self._network, self.config = network, network.config

    def extend(self, *args, **kwargs):
        return self._network.extend(*args, **kwargs)

    def fresh(self, num_sequences=1):
        return Plain(self._network.fresh(num_sequences))


def slow(llama, question: Question) -> OptionScores:
    """Read each option whole, in torch."""
    log_probs, are_greedy = [], []
    for option in question.options:
        total, is_greedy = 0.0, True
        if option:
            ids = [*question.context, *option]
            with torch.no_grad():
                log_probs_TV = llama(torch.tensor([ids[:-1]]))[0].double().log_softmax(-1)
            for place, token_id in enumerate(option, len(question.context) - 1):
                total += float(log_probs_TV[place, token_id])
                is_greedy &= int(log_probs_TV[place].argmax()) == token_id
        log_probs.append(total)
        are_greedy.append(is_greedy)
    return OptionScores(log_probs, are_greedy)


def assert_equal(found: list[OptionScores], expected: list[OptionScores], tolerance: float) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.log_probs == pytest.approx(other.log_probs, abs=tolerance)
        assert one.are_greedy == other.are_greedy


@settings(max_examples=25)
@given(questions=QUESTIONS)
def test_every_network_gives_the_sums_of_the_slow_twin(llama, cpu, questions):
    expected = [slow(llama, question) for question in questions]
    for network in (cpu, Plain(cpu), TorchNetwork(llama)):
        assert_equal(score_options(network, questions), expected, 1e-3)  # type: ignore[arg-type]


def many(count: int) -> list[Question]:
    generator = np.random.default_rng(3)

    def ids(size: int) -> list[int]:
        return generator.integers(0, 384, size).tolist()

    return [
        Question(ids(int(generator.integers(1, 30))), [ids(int(generator.integers(0, 9))) for _ in range(index % 4)])
        for index in range(count)
    ]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_company_and_threads_change_no_bit(llama, dtype, monkeypatch):
    questions = many(70)
    alone = on_cpu(llama, dtype=dtype)
    expected = [score_options(alone, [question])[0] for question in questions]
    for threads, at_once in ((1, 32), (3, 32), (2, 5)):
        monkeypatch.setattr(options, "QUESTIONS_AT_ONCE", at_once)
        assert score_options(on_cpu(llama, dtype=dtype, max_threads=threads), questions) == expected


def test_rows_are_padded_in_groups(llama, monkeypatch):
    questions = many(20)
    expected = [slow(llama, question) for question in questions]
    monkeypatch.setattr(options, "_PADDED_LOGITS", 384 * 40 * 3)
    assert_equal(score_options(TorchNetwork(llama), questions), expected, 1e-3)


def test_the_greedy_continuation_is_said_to_be_greedy(cpu):
    read = [5, 6, 7]
    network = cpu.fresh()
    for _ in range(4):
        read.append(int(network.extend(read, 0)[0].argmax()))
    (scores,) = score_options(cpu, [Question(read[:3], [read[3:], [*read[3:6], (read[6] + 1) % 384]])])
    assert scores.are_greedy == [True, False]
    assert scores.log_probs[0] > scores.log_probs[1]


def test_what_is_certain_costs_nothing(cpu):
    (scores,) = score_options(cpu, [Question([1], [[], [3]])])
    assert scores.log_probs[0] == 0
    assert scores.are_greedy[0]
    assert scores.log_probs[1] < 0
    assert score_options(cpu, []) == []
    assert score_options(cpu, [Question([1], [])]) == [OptionScores([], [])]


def test_the_network_keeps_what_it_remembers(cpu):
    network = cpu.fresh()
    network.extend([1, 2, 3], 0)
    score_options(network, many(3))
    np.testing.assert_array_equal(network.extend([4], 3), cpu.fresh().extend([1, 2, 3, 4], 0))


def test_a_parrot_is_sure_of_its_word(tiny_config):
    (scores,) = score_options(Parrot(tiny_config, 7), [Question([1], [[7, 7], [7, 8]])])
    assert scores.log_probs == pytest.approx([0, -50], abs=1e-6)
    assert scores.are_greedy == [True, False]


def test_progress_counts_questions(cpu):
    seen: list[tuple[int, int]] = []
    score_options(cpu, many(70), on_progress=lambda *now: seen.append(now))
    assert seen == [(32, 70), (64, 70), (70, 70)]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question([1, 384], [[2]]), "token id 384 is outside"),
        (Question([1], [[2, -1]]), "token id -1 is outside"),
        (Question([1] * 80, [[2] * 12]), "position 90 is outside the model's context of 90"),
    ],
)
def test_what_cannot_be_read_is_refused(cpu, question, said):
    with pytest.raises(UserError, match=said):
        score_options(cpu, [Question([1], [[2]]), question])


def test_the_longest_question_fits(llama, cpu):
    question = Question([1] * 80, [[2] * 11, [3]])
    assert question.num_positions == 90
    assert_equal(score_options(cpu, [question]), [slow(llama, question)], 1e-3)


@given(st.integers(1, 60), st.lists(st.integers(0, 20), max_size=3), st.integers(20, 60))
def test_a_fitted_question_keeps_the_end_of_its_context(num_context, lengths, context_length):
    context = list(range(num_context))
    question = fitted(context, [[0] * length for length in lengths], context_length)
    assert question.num_positions <= context_length
    assert question.context
    assert list(question.context) == context[len(context) - len(question.context) :]
    if len(question.context) < num_context:
        assert question.num_positions == context_length


def test_an_option_longer_than_the_context_is_refused():
    assert fitted([1, 2], [[0] * 20], 20) == Question([2], [[0] * 20])
    with pytest.raises(UserError, match="an option of 21 tokens is longer than the model's context of 20"):
        fitted([1], [[0], [0] * 21], 20)


@given(st.integers(1, 4), st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_target_scores_are_those_of_the_formula(num_rows, vocab_size, seed):
    generator = np.random.default_rng(seed)
    logits_KV = (generator.standard_normal((num_rows, vocab_size)) * 9).astype(np.float32)
    rows, targets = generator.integers(0, num_rows, 6), generator.integers(0, vocab_size, 6)
    exact = torch.from_numpy(logits_KV).double().log_softmax(-1).numpy()[rows, targets]
    is_highest = logits_KV[rows, targets] == logits_KV.max(axis=1)[rows]
    found, highest = target_scores(logits_KV, rows, targets)  # type: ignore[arg-type]
    assert found == pytest.approx(exact, abs=1e-5)
    assert highest.tolist() == is_highest.tolist()


def test_in_torch_ignored_targets_cost_nothing():
    logits_BTV = torch.randn(2, 3, 5)
    targets_BT = np.array([[1, 2, IGNORED_LABEL], [4, IGNORED_LABEL, IGNORED_LABEL]])
    nats_BT, highest_BT = scores_of(logits_BTV, targets_BT)
    assert nats_BT[0, 0] == pytest.approx(-float(logits_BTV[0, 0].log_softmax(-1)[1]), abs=1e-6)
    assert (nats_BT[targets_BT == IGNORED_LABEL] == 0).all()
    assert highest_BT[1, 0] == (int(logits_BTV[1, 0].argmax()) == 4)


def test_a_short_network_has_room_for_so_much_alone(cpu):
    short = cpu.fresh(2, context_length=20)
    assert short.config.max_position_embeddings == 20
    np.testing.assert_array_equal(short.extend([1, 2, 3], 0), cpu.fresh().extend([1, 2, 3], 0).copy())
    with pytest.raises(UserError, match="context of 20 tokens"):
        short.extend([1] * 21, 0)
    assert cpu.fresh(context_length=500).config.max_position_embeddings == 90
