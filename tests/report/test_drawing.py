"""Drawing: the same bytes for the same drawing, whatever the user's style; a missing library is one sentence."""

import io
import sys

import numpy as np
import pytest

from stentor.errors import MissingDependencyError
from stentor.report.drawing import _short, drawn, dress, write_both


def line(figure):
    axes = figure.subplots()
    dress(axes, "A title")
    axes.plot([1, 2], [3, 4])


@pytest.mark.parametrize("file_format", ["svg", "png"])
def test_a_users_style_changes_nothing(file_format):
    import matplotlib

    expected = drawn((3, 2), line, file_format)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 20}):
        assert drawn((3, 2), line, file_format) == expected
        assert matplotlib.rcParams["font.size"] == 30  # and is left as it was


def test_the_size_is_in_inches_at_two_hundred_dots():
    png = drawn((3, 2), line, "png")
    assert (int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")) == (600, 400)


def test_text_stays_text():
    assert b"A title" in drawn((3, 2), line, "svg")


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match="matplotlib") as error:
        drawn((3, 2), line, "svg")
    assert "stentor[report]" in error.value.fix


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (14_648, "14,648"), (1.5e6, "1.5M"), (240e6, "240M"), (2.5e9, "2.5B"), (0.5, "0.5")]
)
def test_counts_are_short(value, text):
    assert _short(value) == text


def test_both_formats_are_written_whole(tmp_path):
    paths = write_both(tmp_path / "new", "line", lambda file_format: drawn((3, 2), line, file_format))
    assert [path.name for path in paths] == ["line.svg", "line.png"]
    assert paths[0].read_bytes() == drawn((3, 2), line, "svg")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["line.png", "line.svg"]


def test_a_png_has_a_palette_and_keeps_the_colours_of_its_lines():
    from PIL import Image

    picture = Image.open(io.BytesIO(drawn((3, 2), line, "png")))
    assert picture.mode == "P"
    colours_N3 = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0).astype(int)
    assert np.abs(colours_N3 - (0x1F, 0x77, 0xB4)).sum(axis=1).min() <= 6
