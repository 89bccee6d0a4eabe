import pytest

from stentor.errors import UserError
from stentor.tokenizer.measure import TokenizerMeasurement, measure


def test_counts_are_the_plain_ones(tokenizer, texts):
    measured = measure(tokenizer, iter(texts))
    num_tokens = sum(len(tokenizer.encode(text)) for text in texts)
    num_bytes = sum(len(text.encode()) for text in texts)
    assert measured == TokenizerMeasurement(len(texts), num_bytes, num_tokens)
    assert measured.bytes_per_token == num_bytes / num_tokens > 1


def test_bytes_that_are_no_words_take_a_token_each(tokenizer):
    assert measure(tokenizer, ["\x01\x02\x03", "\x04"]).bytes_per_token == 1.0


def test_surrogates_count_as_they_are_encoded(tokenizer):
    assert measure(tokenizer, ["\ud800"]) == TokenizerMeasurement(1, 1, 1)


@pytest.mark.parametrize("nothing", [[], ["", ""]])
def test_no_text_is_refused(tokenizer, nothing):
    with pytest.raises(UserError, match="no text to measure"):
        measure(tokenizer, nothing)
