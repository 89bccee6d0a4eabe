"""Weights in several files: the same model as from one, and an index that lies is refused before it is followed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from sealing import sealed

from stentor.artifacts import MANIFEST_NAME, write_file
from stentor.errors import CorruptArtifactError, UserError
from stentor.model.quantized import as_float32
from stentor.model.weight_index import INDEX_NAME, files_of, read_index
from stentor.model.weights import read_weights

FILES = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
NORM = "model.norm.weight"


@pytest.fixture
def spread(model_dir, tmp_path):
    """Return a folder whose weights lie in two files, and the one it was made from."""
    folder = tmp_path / "spread"
    shutil.copytree(model_dir, folder)
    (folder / MANIFEST_NAME).unlink()
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: FILES[index % 2] for index, name in enumerate(sorted(tensors))}
    for file in FILES:
        save_file({name: tensors[name] for name in tensors if places[name] == file}, folder / file)
    write_index(folder, places)
    return folder


def write_index(folder, places) -> None:
    write_file(folder / INDEX_NAME, json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


def test_the_model_is_the_same_as_from_one_file(spread, model_dir):
    one, several = read_weights(model_dir), read_weights(spread)
    assert several.config == one.config
    assert several.arrays.keys() == one.arrays.keys()
    assert all(
        np.array_equal(as_float32(array), as_float32(several.arrays[name])) for name, array in one.arrays.items()
    )
    assert files_of(spread / INDEX_NAME) == [spread / name for name in FILES]


def test_one_file_is_taken_before_an_index(spread, model_dir):
    shutil.copy(model_dir / "model.safetensors", spread)
    write_file(spread / INDEX_NAME, "damaged")
    read_weights(spread)


def test_a_link_is_followed_as_the_hubs_cache_is_made_of_them(spread, tmp_path):
    (spread / FILES[0]).rename(tmp_path / "blob")
    (spread / FILES[0]).symlink_to(tmp_path / "blob")
    read_weights(spread)


@pytest.mark.parametrize(
    "name", ["../away.safetensors", "{folder}/../away.safetensors", "a/b", "..", ".", "", "C:\\x", 5, None]
)
def test_a_name_that_leads_elsewhere_is_refused_even_if_the_file_is_sound(spread, name):
    name = name.format(folder=spread) if isinstance(name, str) else name
    places = read_index(spread / INDEX_NAME)
    (spread / FILES[0]).rename(spread.parent / "away.safetensors")
    write_index(spread, {tensor: name if file == FILES[0] else file for tensor, file in places.items()})
    with pytest.raises(UserError, match="which is no file beside it"):
        read_weights(spread)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"weight_map": 5}', b'{"weight_map": ["ab"]}', b"[" * 100_000, b"\xff",
     b'{"weight_map": {"a": "b", "a": "c"}}'],
)  # fmt: skip
def test_what_is_no_index_is_refused(spread, data):
    write_file(spread / INDEX_NAME, data)
    with pytest.raises(UserError, match=rf"{INDEX_NAME} is not a whole index"):
        read_weights(spread)


def test_an_index_of_nothing_is_refused(spread):
    write_index(spread, {})
    with pytest.raises(UserError, match="names no tensor"):
        read_weights(spread)


def test_a_file_that_is_missing_is_named(spread):
    (spread / FILES[1]).unlink()
    with pytest.raises(UserError, match=f"has no {FILES[1]}"):
        read_weights(spread)


def test_a_tensor_that_lies_elsewhere_or_twice_is_named(spread):
    places = read_index(spread / INDEX_NAME)
    other = next(file for file in FILES if file != places[NORM])
    write_index(spread, {**places, NORM: other})
    with pytest.raises(UserError, match=rf"has '{NORM}' in {other}, it lies in {places[NORM]}"):
        read_weights(spread)
    write_index(spread, {**places, "more": FILES[0]})
    with pytest.raises(UserError, match=rf"has 'more' in {FILES[0]}, it lies in None"):
        read_weights(spread)
    save_file({**load_file(spread / other), NORM: load_file(spread / places[NORM])[NORM]}, spread / other)
    with pytest.raises(UserError, match=rf"holds {NORM}, which {FILES[0]} holds too"):
        read_weights(spread)


@pytest.mark.parametrize("name", [INDEX_NAME, FILES[1]])
def test_what_was_altered_since_it_was_sealed_is_refused(spread, name):
    entry = {"size_bytes": 1, "sha256": "ab" * 32}
    write_file(spread / MANIFEST_NAME, sealed({"format": 1, "kind": "model", "details": {}, "files": {name: entry}}))
    with pytest.raises(CorruptArtifactError, match=f"{name} does not match its checksum"):
        read_weights(spread)


def test_they_are_no_place_for_another_model(spread):
    tensors = load_file(spread / FILES[0])
    save_file({f"{name}.x": tensor for name, tensor in tensors.items()}, spread / FILES[0])
    write_index(spread, {name: file for file in FILES for name in load_file(spread / file)})
    with pytest.raises(UserError, match=r"does not match its config\.json"):
        read_weights(spread)
