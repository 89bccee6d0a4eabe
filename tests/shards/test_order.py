import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.shards.order import SequenceOrder, _splitmix64, _splitmix64_of_range

seeds = st.integers(-(2**70), 2**70)


def slow_order(num_sequences, seed, start, count):
    """The obvious twin: sort each epoch by its hashes in plain Python."""
    order = []
    for epoch in range((start + count) // num_sequences + 1):
        key = _splitmix64((_splitmix64(seed % 2**64) + epoch) % 2**64)
        order += sorted(range(num_sequences), key=lambda index, key=key: _splitmix64((key + index) % 2**64))
    return order[start : start + count]


def test_golden_order_never_changes():
    """Runs are resumed by position: another order would silently change every one of them."""
    first, second, third = SequenceOrder(10, seed=0).indices(0, 30).reshape(3, 10).tolist()
    assert first == [4, 8, 0, 1, 7, 6, 2, 5, 3, 9]
    assert second == [9, 7, 0, 1, 6, 3, 4, 5, 2, 8]
    assert third == [0, 3, 2, 8, 6, 4, 9, 7, 1, 5]
    far = SequenceOrder(1_000_003, seed=12345).indices(2_999_990, 6)
    assert far.tolist() == [956863, 520046, 579194, 40450, 284925, 155101]


def test_mixing_function_is_splitmix64():
    """The published first outputs of the generator from seed 1234567."""
    gamma, state = 0x9E3779B97F4A7C15, 1234567
    outputs = [_splitmix64((state + step * gamma) % 2**64) for step in range(3)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(key=st.integers(0, 2**64 - 1))
def test_array_and_plain_mixing_agree(key):
    assert _splitmix64_of_range(key, 5).tolist() == [_splitmix64((key + index) % 2**64) for index in range(5)]


@given(num_sequences=st.integers(1, 20), seed=seeds, start=st.integers(0, 60), count=st.integers(0, 50))
def test_order_agrees_with_the_slow_twin(num_sequences, seed, start, count):
    order = SequenceOrder(num_sequences, seed)
    assert order.indices(start, count).tolist() == slow_order(num_sequences, seed, start, count)


@given(num_sequences=st.integers(1, 50), seed=seeds, epoch=st.integers(0, 1000))
def test_every_epoch_is_a_permutation(num_sequences, seed, epoch):
    indices = SequenceOrder(num_sequences, seed).indices(epoch * num_sequences, num_sequences)
    assert sorted(indices.tolist()) == list(range(num_sequences))


@given(num_sequences=st.integers(1, 20), seed=seeds, positions=st.lists(st.integers(0, 100), max_size=10))
def test_answer_depends_on_the_position_alone(num_sequences, seed, positions):
    whole = SequenceOrder(num_sequences, seed).indices(0, 110).tolist()
    asked_at_random = SequenceOrder(num_sequences, seed)
    for position in positions:
        assert asked_at_random.indices(position, 9).tolist() == whole[position : position + 9]


def test_epochs_and_seeds_differ():
    order = SequenceOrder(1000, seed=1)
    first, second = order.indices(0, 1000), order.indices(1000, 1000)
    other_seed = SequenceOrder(1000, seed=2).indices(0, 1000)
    for other in (second, other_seed, np.arange(1000)):
        assert (first == other).mean() < 0.02


def test_neighbours_are_well_mixed():
    positions = SequenceOrder(10_000, seed=3).indices(0, 10_000)
    assert abs(np.corrcoef(positions, np.arange(10_000))[0, 1]) < 0.03
    assert abs(np.corrcoef(positions[1:], positions[:-1])[0, 1]) < 0.03


def test_nothing_asked_nothing_given():
    indices = SequenceOrder(5, seed=0).indices(3, 0)
    assert (indices.shape, indices.dtype) == ((0,), np.int64)


def test_an_empty_order_is_refused():
    with pytest.raises(ValueError, match="at least one sequence"):
        SequenceOrder(0, seed=0)
