"""transformers' `generate` is timed from token to token."""

from __future__ import annotations

import pytest
import torch

from stentor.bench.in_transformers import GeneratingEngine, open_engine
from stentor.bench.setting import Setting


class Model:
    """Stands in for a model: a second for each token of the prompt, a tenth for each after the first."""

    def __init__(self, clock) -> None:
        self._clock = clock

    def generate(self, input_ids, *, attention_mask, generation_config, streamer):
        assert attention_mask.shape == input_ids.shape
        assert not generation_config.do_sample
        assert generation_config.eos_token_id is None
        streamer.put(input_ids)
        self._clock.now += input_ids.shape[1]
        for _ in range(generation_config.max_new_tokens):
            streamer.put(torch.tensor([5]))
            self._clock.now += 0.1
        streamer.end()


def test_from_the_prompt_to_its_token_and_from_there_to_the_last(clock):
    engine = GeneratingEngine(Model(clock), clock=clock)
    assert engine.prefill([1, 2, 3]) == pytest.approx(3)
    assert engine.decode([1, 2, 3], 4) == pytest.approx(0.1)
    assert "torch" in engine.version


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_folder_opens(request_of, attention):
    setting = Setting(engine="transformers", dtype="float32", cache_dtype="float32", attention=attention)
    before = torch.get_num_threads()
    try:
        engine = open_engine(request_of(setting))
        assert torch.get_num_threads() == 1
        assert isinstance(engine, GeneratingEngine)
        assert engine.decode([5, 6, 7], 2) > 0
    finally:
        torch.set_num_threads(before)
    assert engine._model.config._attn_implementation == attention
    assert engine._model.dtype == torch.float32
