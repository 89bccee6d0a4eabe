"""Names from the Hub, with a Hub that is not there."""

import sys

import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from stentor.errors import CorruptArtifactError, MissingDependencyError, UserError
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.tokenmonster.hub import REPOSITORY, fetch_vocab
from stentor.tokenizer.tokenmonster.published import KNOWN_SHA256


@pytest.fixture
def hub(monkeypatch):
    """Return a function that says what a download gives: a path, or an error to raise."""

    def answers(answer) -> list[tuple]:
        asked = []

        def download(*args, **kwargs):
            asked.append((args, kwargs))
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return asked

    return answers


def test_a_published_name_is_downloaded_and_checked(hub, vocabs):
    asked = hub(vocabs / "english-8000-balanced-v1.vocab")
    tokenizer = Tokenizer.load("tokenmonster:english-8000-balanced-v1")
    assert tokenizer.eos_token_id == 8000
    assert asked == [((REPOSITORY, "vocabs/english-8000-balanced-v1.vocab"), {})]


def test_another_file_under_a_known_name_is_refused(hub, vocabs):
    hub(vocabs / "english-8000-clean-v1.vocab")
    with pytest.raises(CorruptArtifactError, match="is not the published english-8000-balanced-v1"):
        fetch_vocab("english-8000-balanced-v1")


def test_a_name_without_a_known_hash_is_read_as_it_comes(hub, vocabs):
    hub(vocabs / "english-8000-clean-v1.vocab")
    assert Tokenizer.load("tokenmonster:fiction-8000-clean-v1").eos_token_id == 8000


def test_known_hashes_are_those_of_the_files(vocabs):
    lines = (vocabs / "SHA256SUMS").read_text().splitlines()
    assert {f"{name}.vocab": digest for name, digest in KNOWN_SHA256.items()} == {
        name: digest for digest, name in map(str.split, lines)
    }


@pytest.mark.parametrize("name", ["", "../x", "a/b", "English", "a b", "-a"])
def test_a_name_that_could_be_a_path_is_refused(hub, name):
    asked = hub("never")
    with pytest.raises(UserError, match="no name of a published vocabulary"):
        fetch_vocab(name)
    assert not asked


def test_an_unknown_name(hub):
    hub(EntryNotFoundError("404"))
    with pytest.raises(UserError, match="has no vocabulary 'english-9000'"):
        fetch_vocab("english-9000")


@pytest.mark.parametrize(
    "error", [OSError("down"), ConnectionError("down"), ValueError("x"), LocalEntryNotFoundError("offline")]
)
def test_no_network(hub, error):
    hub(error)
    with pytest.raises(UserError, match="could not be fetched"):
        fetch_vocab("english-8000-balanced-v1")


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match=r"huggingface_hub"):
        fetch_vocab("english-8000-balanced-v1")
