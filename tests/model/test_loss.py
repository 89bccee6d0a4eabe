"""Losses: shifted by one, ignoring what nothing is to be predicted from, with and without a teacher."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from stentor.model.init import initialize
from stentor.model.llama import Llama, document_ids
from stentor.model.loss import distilled_loss, shifted_loss, token_nats
from stentor.model.ops import IGNORED_LABEL


def network(config, seed: int, **changes) -> Llama:
    model = Llama(dataclasses.replace(config, **changes))
    initialize(model, seed=seed)
    with torch.no_grad():
        model.embedding_VD.mul_(10)  # so that it expects something
    return model


@pytest.fixture
def ids(tiny_config):
    return torch.randint(1, tiny_config.vocab_size, (3, 20), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels(ids):
    labels = ids.clone()
    labels[0, 5:9] = IGNORED_LABEL
    return labels


@pytest.fixture
def student(tiny_config):
    return network(tiny_config, 1)


@pytest.fixture
def teacher(tiny_config):
    return network(tiny_config, 2, num_hidden_layers=3)


def gradients(model: Llama, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_labels_are_shifted_inside(student, ids, labels):
    nats, count = shifted_loss(student, ids, labels)
    expected = functional.cross_entropy(student(ids)[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    assert float(nats.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert count == 3 * 19 - 4


def test_per_token_it_is_the_same(student, ids, labels):
    targets = functional.pad(labels[:, 1:], (0, 1), value=IGNORED_LABEL)
    assert float(token_nats(student, ids, targets).sum().detach()) == pytest.approx(
        float(shifted_loss(student, ids, labels)[0].detach()), rel=1e-6
    )


def test_without_a_share_the_teacher_is_not_heard(student, teacher, ids, labels):
    plain, _ = shifted_loss(student, ids, labels)
    loss, nats = distilled_loss(student, [teacher], ids, labels, share=0.0)
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=1e-6)
    assert float(nats) == pytest.approx(float(plain.detach()), rel=1e-6)
    expected = gradients(student, plain)
    for name, grad in gradients(student, loss).items():
        torch.testing.assert_close(grad, expected[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_share_is_taken_against_the_teachers_distribution(student, teacher, ids, labels, share):
    """The slow twin: a cross-entropy with probabilities as targets, place by place."""
    log_p = student(ids).log_softmax(dim=-1)
    q = teacher(ids).softmax(dim=-1)
    expected = torch.zeros(())
    for row in range(3):
        for place in range(19):
            label = labels[row, place + 1]
            if label != IGNORED_LABEL:
                soft = -(q[row, place] * log_p[row, place]).sum()
                expected = expected + share * soft - (1 - share) * log_p[row, place, label]
    loss, nats = distilled_loss(student, [teacher], ids, labels, share=share)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(nats) == pytest.approx(float(shifted_loss(student, ids, labels)[0].detach()), rel=1e-6)
    assert not nats.requires_grad


def test_several_teachers_are_heard_as_the_mean_of_their_logits(tiny_config, student, teacher, ids, labels):
    other = network(tiny_config, 3)
    q = ((teacher(ids) + other(ids)) / 2).softmax(dim=-1)[:, :-1][labels[:, 1:] != IGNORED_LABEL]
    log_p = student(ids).log_softmax(dim=-1)[:, :-1][labels[:, 1:] != IGNORED_LABEL]
    loss, _ = distilled_loss(student, [teacher, other], ids, labels, share=1.0)
    assert float(loss.detach()) == pytest.approx(float(-(q * log_p).sum().detach()), rel=1e-5)


def test_only_the_student_learns(student, teacher, ids, labels):
    loss, _ = distilled_loss(student, [teacher], ids, labels, share=0.5)
    loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert any(parameter.grad is not None for parameter in student.parameters())


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_it(student, ids, labels):
    loss, _ = distilled_loss(student, [student], ids, labels, share=1.0)
    assert max(float(grad.abs().max()) for grad in gradients(student, loss).values()) < 1e-4


def test_documents_are_masked_for_both(student, teacher, ids):
    """With a wall between two halves, the second half costs what it costs alone."""
    ids[:, 10] = 0
    labels = ids.clone()
    labels[:, : 10 + 1] = IGNORED_LABEL
    whole, _ = distilled_loss(student, [teacher], ids, labels, share=0.5, document_ids_BT=document_ids(ids, 0))
    alone, _ = distilled_loss(student, [teacher], ids[:, 10:], ids[:, 10:], share=0.5)
    assert float(whole.detach()) == pytest.approx(float(alone.detach()), rel=1e-5)
