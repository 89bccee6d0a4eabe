"""Energy: measured before estimated, estimated from power and time alone, and never guessed."""

from __future__ import annotations

import pytest

from stentor.artifacts import write_file
from stentor.report.card.about import Power
from stentor.report.card.energy import board_watts, energy_of
from stentor.report.card.results import Results, read_results

EMISSIONS = (
    "timestamp,duration,emissions,energy_consumed,country_name,codecarbon_version\n"
    "2026-11-26,1800.0,0.06,0.15,United States,3.3.2\n2026-11-27,1800.0,0.02,0.05,United States,3.3.2\n"
)


@pytest.mark.parametrize(
    ("name", "watts"),
    [
        ("Tesla T4", 70),
        ("NVIDIA H100 80GB HBM3", 700),
        ("NVIDIA H100 PCIe", 350),
        ("NVIDIA H200", 700),
        ("NVIDIA A100-SXM4-80GB", 400),
        ("NVIDIA A100 80GB PCIe", 300),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("cpu", None),
        ("", None),
    ],
)
def test_power_of_known_devices(name, watts):
    assert board_watts(name) == watts


def test_an_estimate_is_power_times_time(made):
    run = made.run("r", [3.0, 2.0], device_name="Tesla T4", num_processes=2)  # 20 updates of 0.5 s
    energy = energy_of(run, Results(), Power())
    assert energy is not None
    assert energy.kwh == pytest.approx(2 * 70 * 10 / 3.6e6)
    assert (energy.hours, energy.kg_co2e, energy.is_measured) == (pytest.approx(10 / 3600), None, False)
    assert "An estimate, not a measurement: 2 x 70 W (the vendor's data sheet" in energy.how


def test_what_the_maker_knows_goes_before_the_table(made):
    run = made.run("r", [3.0, 2.0], device_name="Tesla T4", num_processes=2)
    power = Power(watts=50, num_devices=1, pue=1.2, kg_co2e_per_kwh=0.4, source="a meter")
    energy = energy_of(run, Results(), power)
    assert energy is not None
    assert energy.kwh == pytest.approx(50 * 10 / 3.6e6 * 1.2)
    assert energy.kg_co2e == pytest.approx(energy.kwh * 0.4)
    assert "1 x 50 W (a meter)" in energy.how
    assert "times 1.2 for the data centre" in energy.how


def test_what_is_not_known_is_not_guessed(made):
    assert energy_of(None, Results(), Power()) is None
    assert energy_of(made.run("r", [3.0], device_name="cpu"), Results(), Power()) is None
    assert energy_of(made.run("r", []), Results(), Power(watts=5, source="x")) is None


def test_a_measurement_goes_before_any_estimate(made, tmp_path):
    write_file(tmp_path / "emissions.csv", EMISSIONS)
    energy = energy_of(made.run("r", [3.0], device_name="Tesla T4"), read_results(tmp_path), Power())
    assert energy is not None
    assert energy.is_measured
    assert (energy.kwh, energy.hours, energy.kg_co2e) == pytest.approx((0.2, 1.0, 0.08))
    assert "codecarbon 3.3.2 for the whole machine in United States" in energy.how


def test_carbon_that_codecarbon_did_not_know_is_not_known(tmp_path):
    write_file(tmp_path / "emissions.csv", "duration,energy_consumed,emissions\n3600,0.5,\n")
    energy = energy_of(None, read_results(tmp_path), Power())
    assert energy is not None
    assert (energy.kwh, energy.kg_co2e) == (0.5, None)
