import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.shards.pack import IGNORED_LABEL, PackedSequences, pack_documents, require_tokens

EOS = 0
documents = st.lists(st.lists(st.integers(3, 279), max_size=25), min_size=1, max_size=12)
context_lengths = st.integers(1, 16)
with_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def slow_pack(documents_ids, context_length):
    """The obvious twin: join everything, cut it, pad the end."""
    stream = [i for ids in documents_ids for i in [*ids, EOS]]
    packed = []
    for start in range(0, len(stream), context_length):
        part = stream[start : start + context_length]
        missing = context_length - len(part)
        packed.append((part + [EOS] * missing, part + [IGNORED_LABEL] * missing))
    return packed


def as_lists(pairs):
    return [(input_ids.tolist(), labels.tolist()) for input_ids, labels in pairs]


@with_fixture
@given(documents_ids=documents, context_length=context_lengths)
def test_shard_and_stream_agree_with_the_slow_twin(make_shard, documents_ids, context_length):
    expected = slow_pack(documents_ids, context_length)
    sequences = PackedSequences(make_shard(documents_ids), context_length)
    assert as_lists(sequences.sequence(i) for i in range(len(sequences))) == expected
    streamed = pack_documents(iter(documents_ids), context_length=context_length, eos_token_id=EOS)
    assert as_lists(streamed) == expected


@given(documents_ids=documents, context_length=context_lengths)
def test_no_token_is_lost(documents_ids, context_length):
    packed = pack_documents(documents_ids, context_length=context_length, eos_token_id=EOS)
    learned = [label for _, labels in packed for label in labels.tolist() if label != IGNORED_LABEL]
    assert learned == [i for ids in documents_ids for i in [*ids, EOS]]


@with_fixture
@given(documents_ids=documents, context_length=context_lengths, data=st.data())
def test_batch_is_its_sequences(make_shard, documents_ids, context_length, data):
    sequences = PackedSequences(make_shard(documents_ids), context_length)
    indices = data.draw(st.lists(st.integers(0, len(sequences) - 1), max_size=8))
    input_ids_BT, labels_BT = sequences.batch(np.array(indices, dtype=np.int64))
    assert input_ids_BT.shape == labels_BT.shape == (len(indices), context_length)
    assert input_ids_BT.dtype == labels_BT.dtype == np.int64
    for row, index in enumerate(indices):
        input_ids_T, labels_T = sequences.sequence(index)
        np.testing.assert_array_equal(input_ids_BT[row], input_ids_T)
        np.testing.assert_array_equal(labels_BT[row], labels_T)


@pytest.mark.parametrize(("num_tokens", "length"), [(4, 1), (8, 2), (9, 3), (1, 1), (7, 2)])
def test_length_is_rounded_up(make_shard, num_tokens, length):
    sequences = PackedSequences(make_shard([[5] * (num_tokens - 1)]), 4)
    assert len(sequences) == length


def test_only_the_last_sequence_is_padded(make_shard):
    sequences = PackedSequences(make_shard([[5, 6, 7, 8], [9]]), 4)
    input_ids_BT, labels_BT = sequences.batch(np.array([1, 0]))
    assert input_ids_BT.tolist() == [[0, 9, 0, 0], [5, 6, 7, 8]]
    assert labels_BT.tolist() == [[0, 9, 0, -100], [5, 6, 7, 8]]


def test_batches_may_be_written_to(make_shard):
    sequences = PackedSequences(make_shard([[5, 6, 7, 8], [9]]), 4)
    for array in sequences.batch(np.array([0, 1])):
        array[:] = 1
    assert sequences.sequence(0)[0].tolist() == [5, 6, 7, 8]
    assert sequences.sequence(1)[0].tolist() == [0, 9, 0, 0]


@pytest.mark.parametrize("indices", [[-1], [2], [0, 2], [1, -2]])
def test_sequences_that_do_not_exist_are_refused(make_shard, indices):
    sequences = PackedSequences(make_shard([[5, 6, 7, 8], [9]]), 4)
    with pytest.raises(IndexError, match="numbered 0 to 1"):
        sequences.batch(np.array(indices))


def test_stream_is_read_no_further_than_needed():
    def endless():
        while True:
            yield [5, 6, 7]

    packed = pack_documents(endless(), context_length=6, eos_token_id=EOS)
    assert next(packed)[0].tolist() == [5, 6, 7, 0, 5, 6]
    assert next(packed)[0].tolist() == [7, 0, 5, 6, 7, 0]


def test_no_documents_give_no_sequence():
    assert list(pack_documents([], context_length=4, eos_token_id=EOS)) == []


def test_too_few_tokens_are_refused_with_both_numbers(make_shard):
    shard = make_shard([[5] * 9])
    require_tokens(shard, 10)
    with pytest.raises(UserError, match="has 10 tokens, one sequence takes 11") as caught:
        require_tokens(shard, 11)
    assert "more text" in caught.value.fix
