"""Weights as whole numbers with scales, and as the panels in which kernels read them; see `kernels.products`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stentor.runtime.kernels.products import BLOCK, NIBBLE_PANEL_ROWS, PANEL_ROWS
from stentor.runtime.kernels.scales import choose_scales

Floats = NDArray[np.float32]
_LARGEST_HALF = float(np.finfo(np.float16).max)


def rounded_rows(matrix_RC: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Return a matrix as whole numbers from -127 to 127, and the scale of each row."""
    scales_R = np.maximum(np.abs(matrix_RC).max(axis=1), np.float32(1e-30)) / np.float32(127)
    return np.rint(matrix_RC / scales_R[:, None]).astype(np.int8), scales_R.astype(np.float32)


def rounded_blocks(matrix_RC: Floats, known_RC: Floats | None = None) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Return a matrix as whole numbers [R, C] from -8 to 7, and the scale of every 32 in a row [R, C / 32].

    Args:
        matrix_RC: the weights; C is a multiple of 32.
        known_RC: the float16 scale that each weight already is a multiple of, zero where there is none. A block of
            weights that share one keeps it, so that its whole numbers are those it was made from.
    """
    blocks = np.ascontiguousarray(matrix_RC, dtype=np.float32).reshape(len(matrix_RC), -1, BLOCK)
    scales = np.empty(blocks.shape[:2], dtype=np.float32)
    choose_scales(blocks.ctypes.data, scales.size, scales.ctypes.data)
    if known_RC is not None:
        known = known_RC.reshape(blocks.shape)
        shared = np.where(known.max(axis=2) > 0, known.max(axis=2), known.min(axis=2))
        is_shared = ((known == shared[..., None]) | (blocks == 0)).all(axis=2) & (shared != 0)
        scales = np.where(is_shared, shared, scales)
    halves = np.clip(scales, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16)
    steps = halves.astype(np.float32)[..., None]
    whole = np.divide(blocks, steps, out=np.zeros_like(blocks), where=steps != 0)
    return np.clip(np.rint(whole), -8, 7).astype(np.int8).reshape(matrix_RC.shape), halves


def float_panels(matrix_RC: Floats) -> NDArray[np.uint8]:
    """Return panels of float32 as bytes: [R / 64][C][64]."""
    rows, columns = matrix_RC.shape
    blocks = matrix_RC.reshape(rows // PANEL_ROWS, PANEL_ROWS, columns).transpose(0, 2, 1)
    return np.ascontiguousarray(blocks).reshape(-1).view(np.uint8)


def byte_panels(whole_RC: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return panels of bytes, each 128 higher: [R / 64][C / 4][64][4]."""
    rows, columns = whole_RC.shape
    blocks = (whole_RC.view(np.uint8) ^ np.uint8(128)).reshape(rows // PANEL_ROWS, PANEL_ROWS, columns // 4, 4)
    return blocks.transpose(0, 2, 1, 3).reshape(-1)


def nibble_panels(whole_RC: NDArray[np.int8], scales_RB: NDArray[np.float16]) -> NDArray[np.uint8]:
    """Return panels of four bits a weight, each 8 higher, and scales: [R / 16]([C / 32][4][16][4], [C / 32][16])."""
    rows, columns = whole_RC.shape
    panels, blocks = rows // NIBBLE_PANEL_ROWS, columns // BLOCK
    low_high = (whole_RC + np.int8(8)).view(np.uint8).reshape(panels, NIBBLE_PANEL_ROWS, blocks, 2, 4, 4)
    both = low_high[:, :, :, 0] | low_high[:, :, :, 1] << np.uint8(4)
    weights = both.transpose(0, 2, 3, 1, 4).reshape(panels, -1)
    scales = scales_RB.reshape(panels, NIBBLE_PANEL_ROWS, blocks).transpose(0, 2, 1).reshape(panels, -1)
    return np.concatenate((weights, np.ascontiguousarray(scales).view(np.uint8)), axis=1).reshape(-1)
