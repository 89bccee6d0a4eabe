"""Which type a precision means on which device."""

from __future__ import annotations

import pytest
import torch

from stentor.model import device


@pytest.mark.parametrize(
    ("precision", "flags", "expected"),
    [
        ("float32", "avx512_bf16", torch.float32),
        ("bfloat16", "", torch.bfloat16),
        ("auto", "flags: avx2 avx512_bf16", torch.bfloat16),
        ("auto", "flags: avx2", torch.float32),
    ],
)
def test_on_a_cpu(monkeypatch, precision, flags, expected):
    monkeypatch.setattr(device, "_cpu_flags", lambda: flags)
    assert device.compute_dtype(precision, torch.device("cpu")) is expected


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_on_a_gpu(monkeypatch, capability, expected):
    """A T4 (7.5) has no bfloat16 units, an A100 (8.0) has."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert device.compute_dtype("auto", torch.device("cuda")) is expected


def test_the_fastest_device_is_picked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.pick_device().type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.pick_device().type == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.pick_device().type == "cpu"


def test_a_gpu_has_a_name_and_others_are_called_by_their_kind(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"NVIDIA {device}")
    assert device.device_name(torch.device("cuda", 1)) == "NVIDIA cuda:1"
    assert device.device_name(torch.device("mps")) == "mps"
    assert device.device_name(torch.device("cpu")) == "cpu"
