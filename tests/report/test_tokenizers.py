"""The picture of a comparison: its numbers are in it, and nothing a user names a tokenizer breaks it."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from stentor.errors import UserError
from stentor.report.tokenizers import plot_comparison, plot_format, write_comparison
from stentor.tokenizer.compare import Comparison, TokenizerReport

SVG = "{http://www.w3.org/2000/svg}"


def report(vocab_size: int, num_tokens: int, words: tuple[float | None, ...]) -> TokenizerReport:
    return TokenizerReport(
        vocab_size=vocab_size,
        num_documents=10,
        num_bytes=44_000,
        num_tokens=num_tokens,
        encode_mb_per_second=5.0,
        num_exact_documents=9,
        num_equal_documents=10,
        num_lost_bytes=0,
        tokens_per_word=words,
    )


def comparison(*names: str) -> Comparison:
    words: tuple[float | None, ...] = (1.0, 1.2, None, 2.5)
    reports = {name: report(8000 * (index + 1), 10_000 - 500 * index, words) for index, name in enumerate(names)}
    return Comparison(reports, (500, 300, 0, 200), {(a, b): 0.5 for a in names for b in names if a != b})


def texts_of(svg: bytes) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_the_numbers_are_in_the_picture():
    texts = texts_of(plot_comparison(comparison("eight", "sixteen")))
    assert "4.40  (4,506)" in texts
    assert "2.05 M" in texts
    assert "4.10 M" in texts
    assert texts.count("eight") == 2  # beside its bars and in the legend
    assert "50% of all words" in texts


def test_equal_comparisons_give_equal_bytes():
    for file_format in ("svg", "png"):
        one, other = (plot_comparison(comparison("a", "b"), file_format=file_format) for _ in range(2))
        assert one == other


@pytest.mark.parametrize("count", [1, 2, 9])
def test_any_number_of_tokenizers(count):
    texts = texts_of(plot_comparison(comparison(*(f"number {index}" for index in range(count)))))
    assert sum(text.startswith("number ") for text in texts) == 2 * count


@pytest.mark.parametrize("name", ["$x^2$", "_hidden", "a\\b", "100%", "<b>&amp;", "{}"])
def test_names_are_no_formulas_and_are_not_hidden(name):
    assert texts_of(plot_comparison(comparison(name, "other"))).count(name) == 2


def test_the_file_is_what_its_name_says(tmp_path):
    write_comparison(comparison("a", "b"), tmp_path / "new" / "it.PNG")
    assert (tmp_path / "new" / "it.PNG").read_bytes().startswith(b"\x89PNG")
    write_comparison(comparison("a", "b"), tmp_path / "it.svg")
    assert b"<svg" in (tmp_path / "it.svg").read_bytes()[:600]


@pytest.mark.parametrize("name", ["it.pdf", "it", "png", "it.png.txt"])
def test_other_names_are_refused(name):
    with pytest.raises(UserError, match="no name for a picture"):
        plot_format(Path(name))
