"""Energy of a training: what codecarbon measured, or else the power that a device is built for times the time."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from stentor.report.card.about import Power
from stentor.report.card.results import Results
from stentor.report.runs import ComparedRun

_JOULES_PER_KWH = 3.6e6
_WATTS: tuple[tuple[str, float], ...] = (
    (r"(Tesla|NVIDIA) T4", 70),
    (r"(Tesla )?P100-PCIE-(12|16)GB", 250),
    (r"(Tesla )?V100-SXM2-(16|32)GB", 300),
    (r"(Tesla )?V100-PCIE-(16|32)GB", 250),
    (r"(NVIDIA )?A100-SXM4-(40|80)GB", 400),
    (r"(NVIDIA )?A100-PCIE-40GB", 250),
    (r"(NVIDIA )?A100 80GB PCIe", 300),
    (r"NVIDIA A10", 150),
    (r"NVIDIA L4", 72),
    (r"NVIDIA L40S", 350),
    (r"NVIDIA GeForce RTX 3090", 350),
    (r"NVIDIA GeForce RTX 4090", 450),
    (r"NVIDIA H100 PCIe", 350),
    (r"NVIDIA H100 80GB HBM3", 700),
    (r"NVIDIA H200", 700),
    (r"NVIDIA B200", 1000),
)
"""Most that a device draws by the name CUDA gives it, in watts: the board power of the vendors' data sheets."""
DATA_SHEET = "the vendor's data sheet: the most that the board draws"


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """What a training took.

    Attributes:
        kwh: of energy.
        hours: that it was counted over.
        kg_co2e: None where the carbon of the grid is not known.
        is_measured: by codecarbon; an estimate otherwise.
        how: it came about, in a sentence.
    """

    kwh: float
    hours: float
    kg_co2e: float | None
    is_measured: bool
    how: str


def energy_of(run: ComparedRun | None, results: Results, power: Power) -> Energy | None:
    """Return what a training took; None where nobody measured it and no power or time is known.

    Args:
        run: with the time of its updates and its device.
        results: with the file of codecarbon, which goes before any estimate.
        power: what the maker knows of devices and grid.
    """
    if results.emissions:
        return _measured(results.emissions)
    if run is None or not run.log.seconds:
        return None
    device = str(run.start.get("device_name", ""))
    watts = power.watts or board_watts(device)
    if not watts:
        return None
    num_devices = power.num_devices or _number(run.start.get("num_processes"), default=1)
    kwh = watts * num_devices * run.log.seconds / _JOULES_PER_KWH * power.pue
    times = f"{num_devices} x {watts:g} W ({power.source if power.watts else DATA_SHEET})"
    overhead = f", times {power.pue:g} for the data centre ({power.source or 'as its maker says'})" * (power.pue > 1)
    return Energy(
        kwh=kwh,
        hours=run.log.seconds / 3600,
        kg_co2e=kwh * power.kg_co2e_per_kwh if power.kg_co2e_per_kwh else None,
        is_measured=False,
        how=f"An estimate, not a measurement: {times} times the seconds of all updates in the log{overhead}; without "
        "evaluations, checkpoints, what teachers were asked, the rest of the machine and the runs before this one.",
    )


def board_watts(device_name: str) -> float | None:
    """Return the most that a device draws by its data sheet; None for one that is not in the table.

    Args:
        device_name: as CUDA names it, such as `NVIDIA H200`.
    """
    return next((watts for pattern, watts in _WATTS if re.fullmatch(pattern, device_name)), None)


def _measured(rows: tuple[Mapping[str, str], ...]) -> Energy:
    versions = sorted({row.get("codecarbon_version") or "of unknown version" for row in rows})
    places = sorted({row.get("country_name") or "an unknown country" for row in rows})
    carbon = [_float(row.get("emissions")) for row in rows]
    known = [kg for kg in carbon if kg is not None]
    return Energy(
        kwh=math.fsum(float(row["energy_consumed"]) for row in rows),
        hours=math.fsum(float(row["duration"]) for row in rows) / 3600,
        kg_co2e=math.fsum(known) if len(known) == len(carbon) else None,
        is_measured=True,
        how=f"Counted by codecarbon {', '.join(versions)} for the whole machine in {', '.join(places)}; it reads the "
        "counters of devices that have some, and estimates the rest.",
    )


def _float(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _number(value: object, *, default: int) -> int:
    return value if type(value) is int and value > 0 else default
