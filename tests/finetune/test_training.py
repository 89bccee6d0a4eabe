"""The loop: the loss of training, only the adapter changed, the same bits again, and a stop where numbers end."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stentor.errors import UserError
from stentor.finetune.adapter import adapted
from stentor.finetune.settings import FinetuneSettings
from stentor.finetune.training import train_adapter
from stentor.model.folder import read_model_folder
from stentor.model.loss import token_nats
from stentor.shards.order import SequenceOrder
from stentor.shards.pack import IGNORED_LABEL, PackedSequences

CPU = torch.device("cpu")
QUICK = FinetuneSettings(rank=8, epochs=0.3, lr=3e-2, batch=5, seed=3)


@pytest.fixture(scope="module")
def sequences(tiny_shards, tiny_config) -> PackedSequences:
    return PackedSequences(tiny_shards.train, tiny_config.max_position_embeddings)


def trained(model_dir, sequences, settings: FinetuneSettings):
    model, shown = adapted(model_dir, settings, CPU), []
    before = {name: value.clone() for name, value in model.state_dict().items()}
    records = train_adapter(model, sequences, settings, on_step=shown.append)
    assert shown == records
    return model, before, records


def test_only_the_adapter_changes_and_the_loss_falls(model_dir, sequences):
    model, before, records = trained(model_dir, sequences, QUICK)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    assert len(changed) == 2 * 7 * 2  # two matrices beside each of seven in two layers
    assert records[-1].loss_nats < records[0].loss_nats - 0.1
    assert [record.step for record in records] == list(range(1, QUICK.num_steps(len(sequences)) + 1))


def test_the_rate_warms_up_and_falls_to_nothing(model_dir, sequences):
    _, _, records = trained(model_dir, sequences, QUICK)
    rates = [record.lr for record in records]
    assert max(rates) == pytest.approx(QUICK.lr)
    assert rates[-1] < 0.1 * QUICK.lr
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_the_same_seed_gives_the_same_bits_and_another_one_others(model_dir, sequences):
    runs = [trained(model_dir, sequences, FinetuneSettings(**settings)) for settings in SEEDS]
    weights = [
        torch.cat([value.flatten() for name, value in model.state_dict().items() if "lora_" in name])
        for model, _, _ in runs
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert [record.loss_nats for record in runs[0][2]] == [record.loss_nats for record in runs[1][2]]


SEEDS = [{"rank": 2, "epochs": 0.05, "batch": 4, "seed": seed} for seed in (0, 0, 1)]


def test_the_first_loss_is_our_own_networks_and_leaves_padding_out(model_dir, sequences):
    """An adapter begins at nothing, so before the first update the model is what it was."""
    settings = FinetuneSettings(rank=2, epochs=0.001, batch=len(sequences), seed=0)
    _, _, (record,) = trained(model_dir, sequences, settings)
    inputs_BT, labels_BT = sequences.batch(SequenceOrder(len(sequences), 0).indices(0, len(sequences)))
    assert (labels_BT == IGNORED_LABEL).any()  # the last window is among them
    ours = read_model_folder(model_dir).build()
    with torch.inference_mode():
        nats_BT = token_nats(
            ours, torch.from_numpy(inputs_BT[:, :-1].copy()), torch.from_numpy(labels_BT[:, 1:].copy())
        )
    is_scored = labels_BT[:, 1:] != IGNORED_LABEL
    assert record.loss_nats == pytest.approx(float(nats_BT.numpy()[is_scored].mean()), rel=1e-5)


def test_a_loss_that_is_no_number_stops_it(model_dir, sequences):
    with pytest.raises(UserError, match=r"the loss of step \d+ of \d+ is (nan|inf)") as caught:
        trained(model_dir, sequences, FinetuneSettings(rank=4, lr=1e30, batch=5))
    assert "--lr" in caught.value.fix


def test_every_window_is_seen_once_in_an_epoch(model_dir, sequences, monkeypatch):
    seen: list[int] = []
    batch = sequences.batch
    monkeypatch.setattr(sequences, "batch", lambda indices: seen.extend(indices.tolist()) or batch(indices))
    size = math.gcd(len(sequences), 8) if math.gcd(len(sequences), 8) > 1 else 1
    monkeypatch.setattr("stentor.finetune.training._update", lambda *_: 1.0)
    train_adapter(torch.nn.Linear(2, 2), sequences, FinetuneSettings(batch=size), on_step=lambda _: None)
    np.testing.assert_array_equal(np.sort(seen), np.arange(len(sequences)))
