"""Rounding that compensates its errors: the products it leaves, against plain rounding and a slow twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stentor.export.compensated import DAMPING, compensate, compensated
from stentor.export.scales import LOWEST, best_scales, searched, whole_numbers
from stentor.model.folder import read_model_folder
from stentor.model.names import EMBEDDING


def inputs(num=2000, columns=64, seed=0):
    """Return inputs whose columns go together, as those of a network do."""
    generator = np.random.default_rng(seed)
    return generator.standard_normal((num, 12)) @ generator.standard_normal((12, columns)) + (
        0.1 * generator.standard_normal((num, columns))
    )


def weight(rows=24, columns=64, seed=1):
    return (0.05 * np.random.default_rng(seed).standard_normal((rows, columns))).astype(np.float32)


def values_of(whole, scales):
    return (whole * scales.astype(np.float32)[..., None]).reshape(len(whole), -1)


def slow_compensate(weight_RC, hessian_CC, lowest):
    """The definition: after each column, all later ones move to where they make up best, by solving for it anew."""
    left, columns = weight_RC.astype(np.float64), weight_RC.shape[1]
    damped = hessian_CC + DAMPING * np.diag(hessian_CC).mean() * np.eye(columns)
    out, scale = np.zeros_like(left), np.zeros(len(left), np.float16)
    importance = np.array([1 / np.linalg.inv(damped[column:, column:])[0, 0] for column in range(columns)])
    for column in range(columns):
        if column % 32 == 0:
            inside = slice(column, column + 32)
            scale = best_scales(left[:, inside].astype(np.float32), lowest, importance[inside].astype(np.float32))
        whole = whole_numbers(left[:, column, None].astype(np.float32), scale, lowest)[:, 0]
        out[:, column] = whole * scale.astype(np.float64)
        lost = left[:, column] - out[:, column]
        inverse = np.linalg.inv(damped[column:, column:])
        left[:, column:] -= np.outer(lost / inverse[0, 0], inverse[0])
    return out


@pytest.mark.parametrize("lowest", LOWEST.values())
def test_products_change_less_than_with_searched_scales(lowest):
    x, w = inputs(), weight()
    dtype = {value: key for key, value in LOWEST.items()}[lowest]
    ours = values_of(*compensate(w, x.T @ x, lowest))
    plain = searched(w, dtype).dequantized()
    assert np.square(x @ (ours - w).T).sum() < 0.4 * np.square(x @ (plain - w).T).sum()


def test_it_equals_the_slow_twin_but_for_ties():
    x, w = inputs(), weight(rows=6)
    ours, slow = values_of(*compensate(w, x.T @ x, -8)), slow_compensate(w, x.T @ x, -8)
    assert np.isclose(ours, slow, atol=1e-6).mean() > 0.97


def test_without_anything_to_make_up_with_it_is_the_searched_way():
    """Inputs whose columns have nothing in common leave no compensation, and all columns count the same."""
    w = weight()
    whole, scales = compensate(w, np.eye(64), -8)
    assert np.array_equal(values_of(whole, scales), searched(w, "q4_0").dequantized())


def test_columns_that_no_input_reaches_are_no_trouble():
    x = inputs()
    x[:, 10:40] = 0
    for hessian in (x.T @ x, np.zeros((64, 64))):
        whole, scales = compensate(weight(), hessian, -8)
        assert np.isfinite(scales).all()
        assert whole.min() >= -8
        assert whole.max() <= 7


def test_the_weight_itself_is_not_touched():
    w = weight()
    before = w.copy()
    compensate(w, np.eye(64), -8)
    assert np.array_equal(w, before)


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_a_model_rounded_for_a_text_predicts_it_more_as_before(models, name):
    read = read_model_folder(models[name])
    config, tensors = read.config, read.tensors
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (16, 64))
    made = compensated(config, tensors, ids, "q4_0")
    matrices = [key for key, tensor in tensors.items() if tensor.ndim == 2 and key != EMBEDDING]
    assert sorted(made) == sorted(matrices)
    plain = {key: torch.from_numpy(searched(tensors[key].numpy(), "q4_0").dequantized()) for key in matrices}
    ours = {key: torch.from_numpy(matrix.dequantized()) for key, matrix in made.items()}
    assert all(ours[key].shape == tensors[key].shape for key in matrices)

    def change(some):
        from stentor.model.folder import build_model

        with torch.inference_mode():
            before, after = (
                build_model(config, weights, origin="x").hidden(torch.from_numpy(ids))
                for weights in (tensors, tensors | some)
            )
        return float((before - after).square().sum())

    assert change(ours) < 0.9 * change(plain)
