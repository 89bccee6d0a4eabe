"""A recipe is read, overridden, refused with the nearest name, and written back as it was."""

from __future__ import annotations

import tomllib
from dataclasses import FrozenInstanceError, asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.config import Recipe, TextConfig, TokenizerConfig, TrainConfig, published_recipes
from stentor.errors import UserError
from stentor.model.presets import PRESETS

MINIMAL = {"name": "mine"}


def recipe_file(tmp_path, text: str | bytes):
    path = tmp_path / "recipe.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("name", published_recipes())
def test_published_recipes_load_and_read_back(name, tmp_path):
    recipe = Recipe.load(name)
    assert recipe.name == name
    assert recipe.description
    again = Recipe.load(recipe_file(tmp_path, recipe.to_toml()))
    assert again == recipe
    assert again.hash() == recipe.hash()


def test_reference_recipe_has_the_published_budget():
    recipe = Recipe.load("stentor2-12m")
    assert recipe.model == PRESETS["stentor2-12m"]
    assert divmod(recipe.train.tokens, recipe.train.global_batch_tokens) == (14_648, 8_192)
    assert recipe.text.validation == "take:2000"
    assert recipe.tokenizer.vocab_size == 8_000


def test_every_default_is_written_out():
    table = tomllib.loads(Recipe(name="x").to_toml())
    for section in ("text", "tokenizer", "model", "train"):
        defaults = asdict(getattr(Recipe(name="x"), section))
        assert table[section] == {key: list(v) if isinstance(v, tuple) else v for key, v in defaults.items()}


@pytest.mark.parametrize(
    ("value", "teachers"),
    [("runs/a", ("runs/a",)), ('["runs/a", "b"]', ("runs/a", "b")), ("[]", ()), ('"with, comma"', ("with, comma",))],
)
def test_one_name_or_a_list_of_them(value, teachers):
    recipe = Recipe.load("tiny", overrides=[f"train.teachers={value}"])
    assert recipe.train.teachers == teachers
    assert Recipe.from_table(tomllib.loads(recipe.to_toml())) == recipe


@pytest.mark.parametrize("value", ["3", "[3]", '[""]', "''", "{}"])
def test_what_is_no_list_of_names_is_refused(value):
    with pytest.raises(UserError, match=r"train.teachers is .*, not a list of names"):
        Recipe.load("tiny", overrides=[f"train.teachers={value}"])


@given(
    name=st.from_regex(r"[\w-][\w .+-]*", fullmatch=True),
    description=st.text(),
    source=st.text(),
    lr=st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False),
    weight_decay=st.floats(0, 1e300),
    steps=st.integers(1, 10**15),
    masked=st.booleans(),
)
def test_any_recipe_reads_back_exactly(name, description, source, lr, weight_decay, steps, masked):
    recipe = Recipe(
        name=name,
        description=description,
        text=TextConfig(source=source),
        train=TrainConfig(lr=lr, weight_decay=weight_decay, tokens=1024 * steps, mask_across_documents=masked),
    )
    assert Recipe.from_table(tomllib.loads(recipe.to_toml())) == recipe


def test_hash_depends_on_every_field():
    base = Recipe(name="x")
    seen = {base.hash()}
    for override in ["train.seed=1", "text.source=a", "tokenizer.vocab_size=2047", "model.rope_theta=5e5", "name=y"]:
        seen.add(Recipe.load("tiny", overrides=[override]).hash())
    assert len(seen) == 6
    assert base.hash() == Recipe(name="x").hash()


# --- overrides ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "section", "field", "expected"),
    [
        ("train.lr=2e-3", "train", "lr", 2e-3),
        ("train.lr=1", "train", "lr", 1.0),
        (" train.lr = 0.5 ", "train", "lr", 0.5),
        ("train.warmup_steps=1e2", "train", "warmup_steps", 100),
        ("train.seed=1_000", "train", "seed", 1000),
        ("train.mask_across_documents=true", "train", "mask_across_documents", True),
        ("text.source=corpus/*.txt", "text", "source", "corpus/*.txt"),
        ("text.source='quoted'", "text", "source", "quoted"),
        ("text.source=hf:A/b:c", "text", "source", "hf:A/b:c"),
        ("text.source=a=0.7,b=0.3", "text", "source", "a=0.7,b=0.3"),
        ("text.source=", "text", "source", ""),
        ("text.source=1\nx = 2", "text", "source", "1\nx = 2"),
        ("text.source=" + "[" * 5000, "text", "source", "[" * 5000),
        ("model.hidden_size=64", "model", "hidden_size", 64),
    ],
)
def test_overrides(override, section, field, expected):
    value = getattr(getattr(Recipe.load("tiny", overrides=[override]), section), field)
    assert value == expected
    assert type(value) is type(expected)


def test_overrides_as_a_dictionary_and_the_last_one_wins():
    assert Recipe.load("tiny", overrides={"train.lr": 0.5}).train.lr == 0.5
    assert Recipe.load("tiny", overrides=["train.lr=1", "train.lr=2"]).train.lr == 2


def test_overridden_preset_brings_its_shape():
    overrides = ["model.preset=stentor2-3m", "model.max_position_embeddings=256", "model.vocab_size=2048"]
    recipe = Recipe.load("tiny", overrides=overrides)
    assert recipe.model.hidden_size == 128
    assert recipe.model.num_hidden_layers == 6
    assert recipe.model.max_position_embeddings == 256


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message", "fix"),
    [
        ("train.lrr=1", "train.lrr", "did you mean 'lr'?"),
        ("train.learning_rate=1", "train.learning_rate", "known: "),
        ("trian.lr=1", "'trian'", "did you mean 'train'?"),
        ("model.hidden=1", "model.hidden", "did you mean 'hidden_size'?"),
        ("model.preset=stentor2-12", "'stentor2-12'", "did you mean 'stentor2-12m'?"),
        ("model.preset=5", "model.preset is 5, not a string", "give a string"),
        ("model.preset=[1]", "model.preset is [1]", "give a string"),
        ("train.lr=fast", "train.lr is 'fast', not a number", "give a number"),
        ("train.lr=true", "train.lr is True", "give a number"),
        ("train.lr=nan", "train.lr is nan", "finite"),
        ("train.lr=inf", "train.lr is inf", "finite"),
        ("train.lr=0", "train.lr is 0.0", "above zero"),
        ("train.lr.x=1", "train.lr", ""),
        ("train=5", "train is a section", "write [train]"),
        ("train.tokens=1.5", "train.tokens is 1.5, not a whole number", "whole"),
        ("train.tokens=1000", "not a multiple of the context length 256", "use 1024"),
        ("train.global_batch_tokens=100", "not a multiple", "use 256"),
        ("train.seed=-1", "train.seed is -1", "zero or above"),
        ("train.beta2=1", "train.beta2 is 1.0", "below one"),
        ("train.min_lr_ratio=2", "train.min_lr_ratio is 2.0", "from zero to one"),
        ("train.max_grad_norm=0", "train.max_grad_norm is 0.0", "above zero"),
        ("train.precision=float61", "train.precision is 'float61'", "did you mean 'float16'"),
        ("train.float32_parts=end", "train.float32_parts is 'end'", "did you mean 'ends'"),
        ("train.optimizer=moun", "train.optimizer is 'moun'", "did you mean 'muon'"),
        ("train.schedule=linaer", "train.schedule is 'linaer'", "did you mean 'linear'"),
        ("train.fake_quantize=int4", "train.fake_quantize is 'int4'", "did you mean 'int8'"),
        ("train.matrix_lr=0", "train.matrix_lr is 0.0", "above zero"),
        ("train.embedding_lr=-1", "train.embedding_lr is -1.0", "zero or above"),
        ("train.embedding_weight_decay=-0.1", "train.embedding_weight_decay is -0.1", "zero or above"),
        ("train.momentum=1", "train.momentum is 1.0", "below one"),
        ("train.average_decay=1", "train.average_decay is 1.0", "below one"),
        ("train.decay_ratio=1.5", "train.decay_ratio is 1.5", "from zero to one"),
        ("train.learns_norms=1", "not true or false", "give true or false"),
        ("train.initializer=zeros", "train.initializer", "known: normal"),
        ("train.mask_across_documents=1", "not true or false", "give true or false"),
        ("text.max_bytes=-1", "text.max_bytes is -1", "zero or above"),
        ("text.source=1", "text.source is 1, not a string", "give a string"),
        ("text.source=\udcff", "not valid UTF-8", "other characters"),
        ("tokenizer.vocab_size=0", "tokenizer.vocab_size is 0", "above zero"),
        ("tokenizer.vocab_size=258", "tokenizer.vocab_size is 258", "259"),
        ("tokenizer.vocab_size=65537", "tokenizer.vocab_size is 65537", "65536"),
        ("train.seed=18446744073709551616", "train.seed is a number beyond 64 bits", "give a whole number"),
        ("train.lr=1" + "0" * 400, "train.lr is a number beyond 64 bits", "give a number"),
        ("train.lr=1" + "0" * 5000, "train.lr is '1000", "give a number"),
        ("train.tokens=0x" + "f" * 6000, "train.tokens is a number beyond 64 bits", "give a whole number"),
        ("train.seed=9223372036854775808", "train.seed is 9223372036854775808", "below 2**63"),
        ("name=../../elsewhere", "cannot name its folders", "letters"),
        ("name=/tmp", "cannot name its folders", "letters"),
        ("name=.", "cannot name its folders", "letters"),
        ("name=a\nb", "cannot name its folders", "letters"),
        ("tokenizer.vocab_size=2049", "2049 tokens do not fit", "set model.vocab_size to 2176"),
        ("model.num_key_value_heads=3", "cannot share", "multiple"),
        ("name=", "has no name", "add a line"),
        ("name=5", "name is 5, not a string", "give a string"),
        ("description=5", "description is 5", "give a string"),
        ("train.lr", "'train.lr' is not KEY=VALUE", "train.lr=2e-3"),
        ("=5", "is not KEY=VALUE", "train.lr=2e-3"),
        ("name.x=5", "'name.x' is not a key", "train.lr=2e-3"),
    ],
)
def test_refused_overrides(override, message, fix):
    with pytest.raises(UserError) as caught:
        Recipe.load("tiny", overrides=[override])
    assert message in caught.value.message
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not valid TOML"),
        (b"\xff\xfe", "not valid TOML"),
        ("x = " + "[" * 5000, "not valid TOML"),
        ("", "has no name"),
        ("name = 'x'\nmodel = 5", "model is a section"),
        ("name = 'x'\n[model]\nhidden_size = 'big'", "model.hidden_size is 'big'"),
        ("name = 'x'\ncolour = 'red'", "'colour'"),
        ("name = 'x'\n[[train]]\nlr = 1", "train is a section"),
    ],
)
def test_damaged_files(tmp_path, text, message):
    with pytest.raises(UserError) as caught:
        Recipe.load(recipe_file(tmp_path, text))
    assert message in caught.value.message
    assert caught.value.fix


def test_the_mark_that_windows_editors_write_is_no_mistake(tmp_path):
    assert Recipe.load(recipe_file(tmp_path, b"\xef\xbb\xbfname = 'x'\n")).name == "x"


def test_missing_files_folders_and_names(tmp_path):
    with pytest.raises(UserError, match="no recipe file"):
        Recipe.load(tmp_path / "none.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        Recipe.load(tmp_path / "folder.toml")
    with pytest.raises(UserError, match="no recipe named 'tinny'") as caught:
        Recipe.load("tinny")
    assert "did you mean 'tiny'?" in caught.value.fix


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
known_keys = st.sampled_from(
    ["name", "text", "train", "model", "tokenizer", *(f.name for f in fields(TrainConfig)), "preset", "carrier"]
)


@given(st.dictionaries(known_keys, json_like | st.dictionaries(known_keys, json_like)))
def test_any_table_is_a_recipe_or_one_sentence(table):
    try:
        recipe = Recipe.from_table({**MINIMAL, **table})
    except UserError:
        return
    assert Recipe.from_table(tomllib.loads(recipe.to_toml())) == recipe


def test_building_from_a_table_leaves_it_alone():
    table = {"name": "x", "model": {"preset": "tiny"}, "tokenizer": {"vocab_size": 2048}}
    Recipe.from_table(table)
    assert table == {"name": "x", "model": {"preset": "tiny"}, "tokenizer": {"vocab_size": 2048}}


@pytest.mark.parametrize("config", [TextConfig(), TokenizerConfig(), TrainConfig(), Recipe(name="x")])
def test_configs_are_frozen(config):
    with pytest.raises(FrozenInstanceError):
        setattr(config, fields(config)[0].name, "other")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tokenizer.kind=tokenmonstr"], "did you mean 'tokenmonster'"),
        (["tokenizer.kind=tokenmonster", "tokenizer.mode=blanced"], "did you mean 'balanced'"),
        (["tokenizer.capcode=3"], "tokenizer.capcode is 3"),
        (["tokenizer.kind=tokenmonster", "tokenizer.vocab_size=100"], "tokenizer.vocab_size is 100"),
    ],
)
def test_a_tokenizer_that_cannot_be_learned_is_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        Recipe.load("tiny", overrides=overrides)
