import unicodedata

import pytest

from stentor.tokenizer.probes import mixed_strings


def test_same_seed_same_strings():
    assert mixed_strings(50) == mixed_strings(50)
    assert mixed_strings(50)[:20] == mixed_strings(20)
    assert mixed_strings(50) != mixed_strings(50, seed=1)


def test_strings_are_text_without_specials():
    for text in mixed_strings(5000):
        assert text
        assert text.encode().decode() == text
        assert "<|" not in text
        assert "|>" not in text


@pytest.mark.parametrize(
    "kind",
    [
        "      ",
        "\n\n\n",
        "\t\t",
        "\r\n\r\n",
        "\u200d",
        "\ufe0f",
        "\u0301",
        "\u6771",
        "\u0627",
        "\ufffd",
        "don't",
        "WE'LL",
        "!!!!!!!!",
        "printf(",
        "\u00a0",
        "\U0001f600",
        "1234",
        "\x00",
    ],
)
def test_every_kind_of_text_is_there(kind):
    assert any(kind in text for text in mixed_strings(10_000))


def test_strings_reach_most_of_unicodes_categories():
    categories = {unicodedata.category(character) for text in mixed_strings(3000) for character in text}
    assert len(categories) >= 27
