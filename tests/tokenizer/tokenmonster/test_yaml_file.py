"""The YAML form holds what the binary form holds; edited by hand, mistakes are named."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import CorruptArtifactError, UserError
from stentor.tokenizer.tokenmonster.vocab_file import DeletedToken, pack_vocab
from stentor.tokenizer.tokenmonster.yaml_file import read_yaml, write_yaml

HEAD = "charset: 'utf-8'\nnormalization: 'nfd'\ncapcode: 2\n"


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a text as a vocabulary."""

    def read_text(text: str):
        (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
        return read_yaml(tmp_path / "x.yaml")

    return read_text


@pytest.mark.parametrize("name", ["english-4096-balanced-v1", "english-4096-strict-nocapcode-v1"])
def test_a_published_vocabulary_comes_back_byte_for_byte(published, tmp_path, name):
    write_yaml(tmp_path / "x.yaml", published(name))
    assert pack_vocab(read_yaml(tmp_path / "x.yaml")) == pack_vocab(published(name))


def test_unk_deleted_and_odd_bytes_are_kept(make_vocab, tmp_path):
    tokens = [bytes([byte]) for byte in range(256)] + [b'"\\', "\u2028\ufeff".encode(), b"TokenMonsterHexEncode{ff}"]
    vocab = make_vocab(tokens, capcode=1, normalization=9, mode=4, reserve=36)
    end = vocab.end_id
    vocab = replace(vocab, unk_id=end, num_ids=end + 1, end_id=end + 1, deleted=(DeletedToken(b"gone\xff", 7, 0.5),))
    write_yaml(tmp_path / "x.yaml", vocab)
    assert read_yaml(tmp_path / "x.yaml") == vocab


def test_tokens_may_be_plain_text(read):
    vocab = read(HEAD + 'tokens:\n    - token: "Hello"\n    - token: "D"\n      encoded: true\n    - token: "\u00e9"\n')
    assert [r.token for r in vocab.records] == [b"D", "De\u0301".encode()[:1] + " e\u0301".encode(), b"DC hello"]
    assert [r.id for r in vocab.records] == [0, 1, 2]
    assert vocab.delete_id == 0


def test_specials_have_no_shape(read):
    vocab = read("capcode: 0\nnormalization: none\ntokens:\n - token: a\nspecial:\n - token: <eos>\n")
    assert [(r.token, r.flag) for r in vocab.records] == [(b"a", 131), (b"<eos>", 64)]


def test_ids_can_be_given_and_reset(read):
    body = "capcode: 0\ntokens:\n - token: a\n   id: 5\n - token: b\n   id: 3\n"
    assert [r.id for r in read(body).records] == [5, 3]
    assert [r.id for r in read("reset-token-ids: true\n" + body).records] == [0, 1]


def test_deletion_by_id(read):
    body = "capcode: 0\ntokens:\n - token: a\n   id: 0\n - token: b\n   id: 1\ndelete:\n - id: 1\n"
    assert [r.token for r in read(body).records] == [b"a"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "no table"),
        ("- a", "no table"),
        ("{", "not YAML"),
        ("\x01", "not YAML"),
        (HEAD, "no tokens"),
        (HEAD + "tokens: 5", "no list"),
        (HEAD + "tokens: [a]", "no list"),
        (HEAD + "tokens:\n - token: 5", "not in quotes"),
        (HEAD + "tokens:\n - token: ''", "takes 0 bytes"),
        (HEAD + f"tokens:\n - token: {'x' * 50}", "1 to 40"),
        (HEAD + "tokens:\n - token: a\n - token: a", "appears twice"),
        (HEAD + "tokens:\n - {token: a, id: 1}\n - {token: b, id: 1}", "same id"),
        (HEAD + "tokens:\n - {token: a, id: -1}", "id is -1"),
        (HEAD + "tokens:\n - {token: a, id: 16000000}", "the highest is 16000000"),
        (HEAD + "tokens:\n - {token: a, score: .nan}", "score is nan"),
        (HEAD + "tokens:\n - {token: a, score: x}", "score is 'x'"),
        ("charset: utf-16\ntokens: [{token: a}]", "charset is 'utf-16'"),
        ("capcode: 3\ntokens: [{token: a}]", "capcode is 3"),
        ("charset: [1]\ntokens: [{token: a}]", "charset is [1]"),
        ("capcode: 0\ntokens: [{token: a, id: 0}]\ndelete: [{id: 0}]", "every token"),
        ("capcode: 0\ntokens: [{token: a, id: 0}]\ndelete: [{id: [0]}]", "id is [0]"),
        ("charset: none\ntokens: [{token: a}]", "without the charset"),
        ("normalization: nfx\ntokens: [{token: a}]", "no normalization 'nfx'"),
        ("a: &a [1]\nb: *a\n", "aliases"),
        ("[" * 5000, "deeply"),
        ("tokens:\n" + "".join(f"{' ' * depth}-\n" for depth in range(1, 40)), "deeply"),
        ("x: " + "[" * 1_000_000, "deeply"),  # which would take minutes
    ],
)
def test_mistakes_are_named(read, text, rule):
    with pytest.raises(CorruptArtifactError) as error:
        read(text)
    assert any(part in error.value.message for part in rule.split("|")), error.value.message


@given(st.text(max_size=80))
def test_random_text_is_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_bytes(text.encode(errors="replace"))
    with pytest.raises(CorruptArtifactError):
        read_yaml(path)


def test_a_missing_file_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")
