"""What is asked survives the way to a child, and fits every context."""

import json

from hypothesis import given
from hypothesis import strategies as st

from stentor.bench.setting import ENGINES, FLASH, Request, Setting, Work

SETTING = Setting(engine="xllamacpp", dtype="q8_0", cache_dtype="float16", attention=FLASH, num_threads=2)


def test_a_request_survives_json():
    request = Request(path="model.gguf", setting=SETTING, work=Work(), token_ids=[5, 6])
    again = Request.from_dict(json.loads(json.dumps(request.to_dict())))
    assert (again.path, again.setting, again.token_ids) == (request.path, SETTING, [5, 6])
    assert (list(again.work.prompt_lengths), again.work.repeats) == ([16, 128, 512, 1000], 5)
    assert again.work.num_tokens == request.work.num_tokens


def test_names_say_what_differs():
    assert SETTING.name == "llama.cpp (xllamacpp): q8_0, cache float16, flash"
    assert Setting(engine="stentor", dtype="int8", cache_dtype="int8").name == "stentor: int8, cache int8"
    assert len(set(ENGINES.values())) == len(ENGINES)


def test_the_reference_s_context_holds_all_work():
    assert Work().within(1024) == Work()
    assert Work().num_tokens == 1001


def test_a_short_context_is_used_to_its_end():
    assert Work().within(256) == Work(prompt_lengths=(16, 128, 255), positions=(16, 128, 223))
    assert Work().within(32) == Work(prompt_lengths=(16, 31), positions=(16, 23), num_new_tokens=8)


@given(context_length=st.integers(4, 5000))
def test_work_fits_any_context(context_length):
    work = Work().within(context_length)
    assert work.num_tokens <= context_length
    assert min(*work.prompt_lengths, *work.positions, work.num_new_tokens) >= 1
    assert sorted(set(work.positions)) == list(work.positions)
    assert sorted(set(work.prompt_lengths)) == list(work.prompt_lengths)
