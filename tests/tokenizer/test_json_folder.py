import json

import pytest

from stentor.artifacts import read_manifest, verify_directory
from stentor.errors import CorruptArtifactError, UserError
from stentor.tokenizer import Tokenizer


@pytest.fixture
def folder(tokenizer, tmp_path):
    """A plain folder, as another program would leave it: no manifest."""
    for name, data in tokenizer.files(256).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_folder_file_and_string_are_all_taken(folder, tokenizer):
    for place in (folder, str(folder), folder / "tokenizer.json", str(folder / "tokenizer.json")):
        assert Tokenizer.load(place).sha256 == tokenizer.sha256


def test_saved_folder_is_sealed(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "out")
    manifest = verify_directory(tmp_path / "out", kind="tokenizer")
    assert manifest.details == {"vocab_size": 800, "sha256": tokenizer.sha256}
    assert sorted(manifest.files) == ["tokenizer.json", "tokenizer_config.json"]


def test_existing_folder_is_kept_unless_asked(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "out")
    with pytest.raises(UserError, match="already exists"):
        tokenizer.save(tmp_path / "out")
    tokenizer.save(tmp_path / "out", replace=True)
    assert read_manifest(tmp_path / "out").kind == "tokenizer"


@pytest.mark.parametrize("name", ["nowhere", "empty", "notes.txt", "x\0y"])
def test_anything_else_is_refused_with_what_is_wanted(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match="no tokenizer at") as caught:
        Tokenizer.load(tmp_path / name)
    assert "tokenizer.json" in caught.value.fix


def test_unknown_name_is_refused():
    with pytest.raises(UserError, match="no tokenizer at monster:nothing"):
        Tokenizer.load("monster:nothing")


# --- special tokens ---


def test_lone_file_knows_stentors_own_specials(folder):
    (folder / "tokenizer_config.json").unlink()
    loaded = Tokenizer.load(folder)
    assert (loaded.eos_token_id, loaded.bos_token_id, loaded.pad_token_id) == (0, 1, 2)


def test_config_decides_the_roles(folder):
    edit(
        folder / "tokenizer_config.json",
        eos_token={"content": "<|padding|>"},
        pad_token="<|beginoftext|>",
        bos_token=None,
    )
    loaded = Tokenizer.load(folder)
    assert (loaded.eos_token_id, loaded.bos_token_id, loaded.pad_token_id) == (2, 2, 1)
    assert json.loads(loaded.files()["tokenizer_config.json"])["bos_token"] == "<|padding|>"


@pytest.mark.parametrize("eos_token", ["</s>", "ba", 7, ["<|padding|>"], {"content": 5}, {"content": []}])
def test_config_that_names_a_stranger_is_refused(folder, eos_token):
    edit(folder / "tokenizer_config.json", eos_token=eos_token)
    with pytest.raises(UserError, match="as eos_token"):
        Tokenizer.load(folder)


@pytest.mark.parametrize("eos_token", [None, {}])
def test_config_without_eos_is_refused(folder, eos_token):
    edit(folder / "tokenizer_config.json", eos_token=eos_token)
    with pytest.raises(UserError, match="does not say which token ends a document"):
        Tokenizer.load(folder)


# --- damage ---


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_damaged_config_is_refused(folder, data):
    (folder / "tokenizer_config.json").write_bytes(data)
    with pytest.raises(CorruptArtifactError, match=r"tokenizer_config\.json is damaged"):
        Tokenizer.load(folder)


def test_config_that_is_a_list_is_refused(folder):
    (folder / "tokenizer_config.json").write_text("[]")
    with pytest.raises(UserError, match="no table of settings"):
        Tokenizer.load(folder)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_truncated_file_is_refused(folder, keep):
    file = folder / "tokenizer.json"
    data = file.read_bytes()
    file.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(CorruptArtifactError, match="damaged"):
        Tokenizer.load(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_sealed_file_that_was_altered_is_refused(tokenizer, tmp_path, name):
    tokenizer.save(tmp_path / "out")
    file = tmp_path / "out" / name
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(CorruptArtifactError, match="does not match its checksum"):
        Tokenizer.load(tmp_path / "out")


def test_file_that_cannot_be_read_is_refused(folder, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(UserError, match="cannot be read"):
        Tokenizer.load(folder)
