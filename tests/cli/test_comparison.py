"""How a comparison is laid out."""

from stentor.cli.comparison import comparison_table, comparison_value
from stentor.tokenizer.compare import Comparison, TokenizerReport


def report(vocab_size: int, num_tokens: int) -> TokenizerReport:
    return TokenizerReport(
        vocab_size=vocab_size,
        num_documents=200,
        num_bytes=44_000,
        num_tokens=num_tokens,
        encode_mb_per_second=5.25,
        num_exact_documents=199,
        num_equal_documents=200,
        num_lost_bytes=1_234,
        tokens_per_word=(1.0, 1.25, None, 2.5),
    )


TWO = Comparison(
    {"small": report(8_000, 11_000), "large": report(32_000, 10_000)},
    (500, 300, 0, 200),
    {("small", "large"): 0.75, ("large", "small"): 0.1875},
)


def test_the_table_has_a_column_for_each():
    lines = comparison_table(TWO).splitlines()
    found = {line[:33].strip(): line[33:].split() for line in lines if line}
    assert found[""] == ["small", "large"]
    assert found["tokens in the vocabulary"] == ["8,000", "32,000"]
    assert found["bytes per token"] == ["4.000", "4.400"]
    assert found["bytes in 1,024 tokens"] == ["4,096", "4,506"]
    assert found["embedding, 256 wide"] == ["2,048,000", "8,192,000"]
    assert found["documents kept exactly"] == ["99.50%", "99.50%"]
    assert found["bytes without a token"] == ["1,234", "1,234"]
    assert found["1,001 to 10,000"] == ["-", "-"]
    assert found["large"] == ["75.0%"]
    assert all(line == line.rstrip() for line in lines)


def test_columns_are_aligned():
    lines = comparison_table(TWO).splitlines()
    assert len({len(line) for line in lines if line.endswith(("large", "32,000", "4.400", "8,192,000", "MB/s"))}) == 1


def test_the_end_says_what_the_larger_one_gives_and_costs():
    last = comparison_table(TWO).splitlines()[-1]
    assert last == "large carries 10.0% more bytes a token than small, for 6,144,000 more embedding parameters"


def test_fewer_is_said_too():
    turned = Comparison(dict(reversed(list(TWO.reports.items()))), TWO.words_by_band, TWO.shared)
    last = comparison_table(turned).splitlines()[-1]
    assert last == "small carries 9.1% fewer bytes a token than large, for 6,144,000 fewer embedding parameters"


def test_alone_there_is_nothing_to_say():
    alone = comparison_table(Comparison({"it": report(300, 9_000)}, (1, 0, 0, 0), {}))
    assert "share of its tokens" not in alone
    assert "carries" not in alone


def test_json_names_them_as_they_were_given():
    value = comparison_value(TWO, "text.txt", ["a/small", "b/large"])
    assert [row["tokenizer"] for row in value["tokenizers"]] == ["a/small", "b/large"]
    assert value["shared"][0] == {"tokenizer": "a/small", "with": "b/large", "share": 0.75}
    assert value["words_by_band"] == [500, 300, 0, 200]
    assert value["tokenizers"][0]["tokens_per_word"] == (1.0, 1.25, None, 2.5)
