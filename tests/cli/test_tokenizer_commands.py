import json

import pytest
from typer.testing import CliRunner

from stentor.artifacts import read_manifest
from stentor.cli.tokenizer import app
from stentor.errors import UsageError, UserError
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.bpe import train_bpe

WORDS = "the tide turned at dawn and the gulls rose over the salt marsh, crying \u00e9toile. "


def run(*arguments, stdin=b""):
    """Run a command; what a user could mend comes out as the error itself."""
    result = CliRunner().invoke(app, list(map(str, arguments)), input=stdin)
    if isinstance(result.exception, UserError):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "tokenizer"
    train_bpe([WORDS * 20], vocab_size=300).save(folder)
    return folder


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(WORDS * 50, encoding="utf-8")
    return path


# --- train ---


def test_train_makes_a_sealed_folder(source, tmp_path):
    result = run("train", source, tmp_path / "out", "--vocab-size", 290)
    assert result.exit_code == 0
    assert "290" in result.stdout
    assert read_manifest(tmp_path / "out", kind="tokenizer").details["vocab_size"] == 290


def test_train_answers_as_json_on_stdout_alone(source, tmp_path):
    result = run("train", source, tmp_path / "out", "--vocab-size", 290, "--json")
    tokenizer = Tokenizer.load(tmp_path / "out")
    assert json.loads(result.stdout) == {
        "tokenizer": str(tmp_path / "out"),
        "vocab_size": 290,
        "sha256": tokenizer.sha256,
    }


def test_train_keeps_an_existing_output_unless_forced(source, tmp_path):
    run("train", source, tmp_path / "out", "--vocab-size", 290)
    with pytest.raises(UserError, match="already exists"):
        run("train", source, tmp_path / "out", "--vocab-size", 280)
    run("train", source, tmp_path / "out", "--vocab-size", 280, "--force")
    assert Tokenizer.load(tmp_path / "out").vocab_size == 280


def test_train_refuses_too_little_text_and_leaves_nothing(source, tmp_path):
    with pytest.raises(UserError, match="the text gives only"):
        run("train", source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]


def test_train_refuses_a_missing_source(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        run("train", tmp_path / "nowhere.txt", tmp_path / "out")


# --- encode and decode ---


def test_encode_prints_ids_and_nothing_else(folder):
    result = run("encode", "--tokenizer", folder, stdin=b"the tide")
    assert [int(word) for word in result.stdout.split()] == Tokenizer.load(folder).encode("the tide")
    assert result.stdout.endswith("\n")
    assert result.stderr == ""


def test_encode_reads_a_file(folder, source):
    result = run("encode", source, "-t", folder, "--json")
    value = json.loads(result.stdout)
    assert value["token_ids"] == Tokenizer.load(folder).encode(source.read_bytes())
    assert (value["num_tokens"], value["num_bytes"]) == (len(value["token_ids"]), source.stat().st_size)


@pytest.mark.parametrize(
    "data", [b"", b"plain\n", "\u00e9 \U0001f600\r\n".encode(), b"\xff\x00\xfe", bytes(range(256))]
)
def test_any_bytes_survive_encode_and_decode(folder, data):
    ids = run("encode", "-t", folder, stdin=data).stdout
    assert run("decode", "-t", folder, stdin=ids.encode()).stdout_bytes == data


def test_decode_reads_a_file_and_answers_as_json(folder, tmp_path):
    ids = Tokenizer.load(folder).encode("salt marsh")
    (tmp_path / "ids.txt").write_text("\n".join(map(str, ids)))
    result = run("decode", tmp_path / "ids.txt", "-t", folder, "--json")
    assert json.loads(result.stdout) == {"text": "salt marsh", "num_tokens": len(ids)}


@pytest.mark.parametrize("words", ["5 x", "-1", "1.5", "0x10", "9" * 5000, "\u0661", "1,2"])
def test_decode_refuses_what_is_no_id(folder, words):
    with pytest.raises(UserError, match="is no token id"):
        run("decode", "-t", folder, stdin=words.encode())


def test_decode_refuses_an_id_beyond_the_vocabulary(folder):
    with pytest.raises(UserError, match="outside the vocabulary of 300 tokens"):
        run("decode", "-t", folder, stdin=b"300")


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_missing_inputs_are_refused(folder, tmp_path, command):
    with pytest.raises(UserError, match="cannot be read"):
        run(command, tmp_path / "nowhere", "-t", folder)
    with pytest.raises(UserError, match="no tokenizer at"):
        run(command, "-t", tmp_path / "nowhere")
    assert run(command).exit_code == 2


# --- compare ---


def test_compare_measures_each_on_the_same_text(folder, source, tmp_path):
    train_bpe([WORDS * 20], vocab_size=280).save(tmp_path / "small")
    value = json.loads(run("compare", folder, tmp_path / "small", "--text", source, "--json").stdout)
    large, small = value["tokenizers"]
    assert value["text"] == str(source)
    assert (large["vocab_size"], small["vocab_size"]) == (300, 280)
    assert large["num_bytes"] == small["num_bytes"] == source.stat().st_size
    assert large["bytes_per_token"] == large["num_bytes"] / large["num_tokens"] > small["bytes_per_token"]


def test_compare_prints_a_table(folder, source):
    lines = run("compare", folder, "--text", source).stdout.splitlines()
    assert lines[0].split() == [folder.name]
    assert lines[1].split()[-1] == "300"


def test_compare_draws_a_picture(folder, source, tmp_path):
    run("compare", folder, "--text", source, "--plot", tmp_path / "it.png")
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="no name for a picture"):
        run("compare", folder, "--text", "nowhere.txt", "--plot", tmp_path / "it.doc")


def test_compare_takes_tokenizers_of_the_same_name(folder, source):
    value = json.loads(run("compare", folder, folder, "--text", source, "--json").stdout)
    assert [row["tokenizer"] for row in value["tokenizers"]] == [str(folder)] * 2
    assert [pair["share"] for pair in value["shared"]] == [1.0, 1.0]


def test_compare_opens_every_tokenizer_before_it_reads_text(folder, tmp_path):
    with pytest.raises(UserError, match="no tokenizer at"):
        run("compare", folder, tmp_path / "nowhere", "--text", "nowhere.txt")
    with pytest.raises(UserError, match="no such file"):
        run("compare", folder, "--text", tmp_path / "nowhere.txt")


@pytest.mark.parametrize("command", ["train", "encode", "decode", "compare"])
def test_help_has_an_example(command):
    assert "Example: " in run(command, "--help").stdout


# --- train: other kinds ---


@pytest.mark.parametrize(("kind", "num_tokens"), [("tokenmonster", 263), ("unigram", 265)])
def test_train_other_kinds(source, tmp_path, kind, num_tokens):
    size = num_tokens - 3 if kind == "tokenmonster" else num_tokens
    result = run("train", source, tmp_path / "out", "--kind", kind, "--fast", "--vocab-size", size, "--workers", 1)
    assert result.exit_code == 0
    assert Tokenizer.load(tmp_path / "out").vocab_size == num_tokens
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "text.txt"]


def test_train_with_every_option(source, tmp_path):
    options = ("--mode", "clean", "--capcode", 1, "--bytes", "all", "--min-occurrences", 3, "--all-scripts")
    run("train", source, tmp_path / "out", "--kind", "tokenmonster", "--fast", "--vocab-size", 300, *options)
    vocab = Tokenizer.load(tmp_path / "out").vocab  # type: ignore[attr-defined]
    assert (vocab.settings.mode, vocab.settings.capcode, vocab.settings.reserve) == (1, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "wordpiece"], "there is no kind of tokenizer 'wordpiece'"),
        (["--mode", "strict"], "--mode is for --kind tokenmonster only"),
        (["--kind", "unigram", "--bytes", "all"], "--bytes is for --kind tokenmonster only"),
        (["--kind", "unigram", "--workers", "0"], "0 workers cannot work"),
    ],
)
def test_train_refuses_options_that_do_not_belong(source, tmp_path, options, message):
    result = CliRunner().invoke(app, ["train", str(source), str(tmp_path / "out"), *options])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_train_refuses_a_mode_that_needs_markers(source, tmp_path):
    with pytest.raises(UserError, match="needs capcode 1 or 2"):
        run("train", source, tmp_path / "out", "--kind", "tokenmonster", "--mode", "strict", "--capcode", 0)
