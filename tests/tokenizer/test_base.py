"""What every family inherits, shown on the smallest tokenizer there can be: one id per byte."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.artifacts import read_manifest, write_file
from stentor.errors import UserError
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.base import Losses
from stentor.tokenizer.measure import measure
from stentor.tokenizer.stream import StreamDecoder


class ByteTokenizer(Tokenizer):
    @property
    def vocab_size(self):
        return 257

    @property
    def eos_token_id(self):
        return 256

    @property
    def bos_token_id(self):
        return 256

    @property
    def pad_token_id(self):
        return 256

    @property
    def sha256(self):
        return "0" * 64

    def token_bytes(self, token_id):
        return bytes([token_id]) if token_id < 256 else b""

    def encode_batch(self, texts, num_threads=None):
        return [list(text if isinstance(text, bytes) else text.encode(errors="replace")) for text in texts]

    def files(self, model_max_length=None):
        return {"bytes.txt": b"one id per byte\n"}


@given(data=st.binary(max_size=30))
def test_another_family_needs_only_the_abstract_methods(data):
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(data)
    assert tokenizer.decode_bytes([*ids, 256]) == data
    assert tokenizer.decode(ids) == data.decode(errors="replace")
    decoder = StreamDecoder(tokenizer)
    assert "".join(map(decoder.push, ids)) + decoder.finish() == tokenizer.decode(ids)


def test_measured_and_saved_like_any_other(tmp_path):
    tokenizer = ByteTokenizer()
    assert measure(tokenizer, ["abc", "\u00e9"]).bytes_per_token == 1.0
    tokenizer.save(tmp_path / "out")
    assert list(read_manifest(tmp_path / "out", kind="tokenizer").files) == ["bytes.txt"]


def test_a_family_that_keeps_every_byte_loses_nothing():
    texts = [b"a", b"\xff\x00"]
    tokenizer = ByteTokenizer()
    assert tokenizer.losses(texts, tokenizer.encode_batch(texts)) == Losses(0, 0)
    assert Losses(1, 2) + Losses(3, 4) == Losses(4, 6)


@pytest.mark.parametrize("token_id", [-1, 257])
def test_an_unknown_id_is_refused_by_name(token_id):
    with pytest.raises(UserError, match=f"the token id {token_id} is outside the vocabulary of 257 tokens"):
        ByteTokenizer().require_known(token_id)


@pytest.mark.parametrize(("name", "expected"), [("tokenizer.json", True), ("x.vocab", True), ("config.json", False)])
def test_a_folder_that_holds_a_tokenizer_is_known(tmp_path, name, expected):
    write_file(tmp_path / name, "")
    assert Tokenizer.is_in(tmp_path) is expected


def test_importing_the_name_loads_no_library():
    program = (
        "import sys; from stentor.tokenizer import Tokenizer; print(sorted({'tokenizers', 'numpy'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert shown.strip() == "[]"


def test_arrays_hold_the_same_ids():
    texts = ["abc", b"\xff", ""]
    arrays = ByteTokenizer().encode_arrays(texts)
    assert [array.tolist() for array in arrays] == ByteTokenizer().encode_batch(texts)
    assert {array.dtype.name for array in arrays} == {"uint32"}
