"""One string names any source; order and mix depend on the text alone; mistakes come back with the fix."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.text import sources
from stentor.text.document import Document, Tally
from stentor.text.sources import find_files, mix, open_source, read_texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with readable, unreadable and hidden files, made in an order that is not theirs."""
    root = tmp_path / "texts"
    for name in ("z.txt", "b/two.md", "a.txt", "b/one.txt", "B.txt", "ignored.pdf", ".hidden.txt", ".git/x.txt"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}", encoding="utf-8")
    return root


def texts(spec: str | Path) -> list[str]:
    return list(read_texts(str(spec)))


def test_file(folder):
    assert list(open_source(str(folder / "a.txt"))) == [Document("text of a.txt", "a.txt", str(folder / "a.txt"))]


def test_folder_is_read_in_order_of_names(folder):
    documents = list(open_source(str(folder)))
    assert [document.id for document in documents] == ["B.txt", "a.txt", "b/one.txt", "b/two.md", "z.txt"]
    assert documents[2].text == "text of b/one.txt"


def test_order_does_not_depend_on_the_file_system(folder, monkeypatch):
    expected, real_walk = find_files(str(folder)), os.walk

    def reversed_walk(top, onerror=None):
        for parent, folders, names in real_walk(top, onerror=onerror):
            folders.reverse()
            yield parent, folders, sorted(names, reverse=True)

    monkeypatch.setattr(os, "walk", reversed_walk)
    assert find_files(str(folder)) == expected


def test_links_to_folders_are_not_followed(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret", encoding="utf-8")
    (folder / "link").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "broken.txt").symlink_to(tmp_path / "nowhere")
    assert len(texts(folder)) == 5


def test_globs(folder):
    assert texts(folder / "*.txt") == ["text of B.txt", "text of a.txt", "text of z.txt"]
    assert texts(folder / "**/t*.md") == ["text of b/two.md"]
    assert texts(folder / "[ab].txt") == ["text of a.txt"]
    assert sorted(texts(folder / "**")) == sorted(texts(folder))
    assert texts(folder / "**/**/t*.md") == ["text of b/two.md"]


def test_globs_do_not_follow_links_in_circles(folder):
    for name in ("x", "y", "b/up"):
        (folder / name).symlink_to(folder)
    assert len(texts(folder / "**/*")) == 5
    assert texts(folder / "x/*.txt") == texts(folder / "*.txt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_before_it_blocks(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match="is not a regular file"):
        open_source(str(tmp_path / "pipe.txt"))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs permissions that bind")
def test_a_folder_that_may_not_be_read_is_refused(folder):
    (folder / "b").chmod(0)
    with pytest.raises(UserError, match="cannot be read"):
        open_source(str(folder))


def test_file_whose_name_looks_like_a_glob_or_a_mix(tmp_path):
    for name in ("a[1].txt", "a=0.5", "x,y=1"):
        path = tmp_path / name if name.endswith(".txt") else tmp_path / name / "f.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(name, encoding="utf-8")
        assert texts(tmp_path / name) == [name]


def test_home_folder_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert texts("~/a.txt") == ["text of a.txt"]


@pytest.mark.parametrize(
    ("spec", "message", "fix"),
    [
        ("", "is empty", "builtin:docs"),
        ("none.txt", "no such file or folder: none.txt", "check the path"),
        ("none/*.txt", r"no file matches none/\*.txt", "check the pattern"),
        ("builtin:dogs", "no built-in source 'builtin:dogs'", "did you mean 'docs'?"),
        ("hf:", "is not hf:NAME", "fineweb-edu"),
        ("hf:a:b:c:d", "is not hf:NAME", "fineweb-edu"),
        ("a.txt,b.txt", "no such file", "a.txt=0.7,b.txt=0.3"),
        ("a.txt=0.7,b.txt", "'b.txt' in the mix", "SOURCE=WEIGHT"),
        ("a.txt=0.7,b.txt=0", "'b.txt=0' in the mix", "SOURCE=WEIGHT"),
        ("a.txt=-1,b.txt=1", "'a.txt=-1' in the mix", "SOURCE=WEIGHT"),
        ("a.txt=inf,b.txt=1", "'a.txt=inf' in the mix", "SOURCE=WEIGHT"),
        ("a.txt=x,b.txt=1", "'a.txt=x' in the mix", "SOURCE=WEIGHT"),
        ("a.txt=0", "'a.txt=0' in the mix", "SOURCE=WEIGHT"),
        ("a.txt=nan", "'a.txt=nan' in the mix", "SOURCE=WEIGHT"),
        ("a.txt=1e308,b.txt=1e308", "'a.txt=1e308' in the mix", "SOURCE=WEIGHT"),
        ("none.txt=1.0", "no such file or folder: none.txt", "check the path"),
        ("x" * 5000, "no such file or folder", "check the path"),
        ("nul\0.txt", "no such file or folder", "check the path"),
    ],
)
def test_mistakes_are_refused_before_anything_is_read(spec, message, fix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        open_source(spec)
    assert fix in caught.value.fix


def test_unknown_ending_and_empty_folder(tmp_path):
    (tmp_path / "a.pdf").touch()
    with pytest.raises(UserError, match="cannot tell how to read"):
        open_source(str(tmp_path / "a.pdf"))
    with pytest.raises(UserError, match="has no file to read"):
        open_source(str(tmp_path))


def test_tally_receives_what_readers_drop(tmp_path):
    path, tally = tmp_path / "a.jsonl", Tally()
    path.write_text('{"text": "fine"}\nbad\n', encoding="utf-8")
    assert len(list(open_source(str(path), tally))) == 1
    assert tally.dropped_documents == {"bad_json": 1}


def test_sources_are_streams(tmp_path, monkeypatch):
    """Opening a second file only when the first is done keeps memory and start-up small."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    opened = []
    real = sources.read_documents
    monkeypatch.setattr(
        sources, "read_documents", lambda path, name, tally: (opened.append(name), real(path, name, tally))[1]
    )
    stream = open_source(str(tmp_path))
    next(stream)
    assert opened == ["a.txt"]


def test_real_corpus(shared):
    documents = list(open_source(str(shared / "corpus" / "tiny.jsonl.zst")))
    assert len(documents) == 276
    assert sum(document.num_bytes for document in documents) == 2_000_651
    assert len({document.id for document in documents}) == 276
    assert all(document.source and not document.source.endswith(".zst") for document in documents)


def test_real_validation_file(shared):
    num_bytes = [len(text.encode()) for text in read_texts(str(shared / "corpus" / "edu-val.jsonl.zst"))]
    assert (len(num_bytes), sum(num_bytes)) == (1990, 15_844_591)


# --- mixes ---


def stream(name: str, sizes: list[int]) -> list[Document]:
    return [Document("x" * size, f"{name}{index}", name) for index, size in enumerate(sizes)]


sizes = st.lists(st.integers(1, 50), min_size=1, max_size=40)


@given(st.lists(st.tuples(sizes, st.floats(0.01, 10)), min_size=1, max_size=4))
def test_mix_holds_at_every_point_to_within_one_document(parts):
    streams = [(str(i), weight, iter(stream(str(i), lengths))) for i, (lengths, weight) in enumerate(parts)]
    shares = [weight / sum(weight for _, weight in parts) for _, weight in parts]
    remaining = [len(lengths) for lengths, _ in parts]
    taken = [0] * len(parts)
    for document in mix(streams, Tally()):
        part = int(document.source)
        taken[part] += document.num_bytes
        remaining[part] -= 1
        if not all(remaining):
            break  # from here on a source may be missing
        progress = [num_bytes / share for num_bytes, share in zip(taken, shares, strict=True)]
        assert max(progress) - min(progress) <= max(50 / share for share in shares) + 1e-6


@given(st.lists(st.tuples(sizes, st.floats(0.01, 10)), min_size=1, max_size=4))
def test_mix_keeps_every_document_once_in_the_order_of_its_source(parts):
    streams = [(str(i), weight, iter(stream(str(i), lengths))) for i, (lengths, weight) in enumerate(parts)]
    mixed = list(mix(streams, Tally()))
    for index, (lengths, _) in enumerate(parts):
        assert [d for d in mixed if d.source == str(index)] == stream(str(index), lengths)


def test_mix_is_golden_and_says_when_a_source_ends():
    tally = Tally()
    streams = [("A", 0.7, iter(stream("A", [10] * 8))), ("B", 0.3, iter(stream("B", [10, 10])))]
    assert "".join(document.source for document in mix(streams, tally)) == "ABAABAAAAA"
    assert tally.notes == ["B ended after 2 documents (20 bytes); the mix went on without it"]


def test_mix_of_files(tmp_path):
    for name, count in (("a", 70), ("b", 30)):
        lines = [json.dumps({"text": f"{name}{n:03}"}) for n in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    spec = f" {tmp_path}/a.jsonl=7 , {tmp_path}/b.jsonl=3"
    mixed = texts(spec)
    assert len(mixed) == 100
    assert all(6 <= sum(text.startswith("a") for text in mixed[n : n + 10]) <= 8 for n in range(0, 90, 10))
    assert mixed == texts(spec)
