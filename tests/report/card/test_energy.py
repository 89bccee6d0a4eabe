"""Energy: measured before estimated, estimated from power and time alone, and never guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize("emissions", ["nan", "inf", "-1", "unknown"])
def test_carbon_that_is_no_number_is_not_known(tmp_path, emissions):
    write_file(tmp_path / "emissions.csv", f"duration,energy_consumed,emissions\n3600,0.5,0.1\n3600,0.5,{emissions}\n")
    energy = energy_of(None, read_results(tmp_path), Power())
    assert energy is not None
    assert (energy.kwh, energy.kg_co2e) == (1.0, None)


@given(rows=st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e3), st.floats(0, 1e3)), min_size=1, max_size=6))
def test_a_measurement_is_the_sum_of_its_rows(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("emissions")
    lines = [",".join(map(repr, row)) for row in rows]
    write_file(folder / "emissions.csv", "\n".join(["duration,energy_consumed,emissions", *lines]))
    energy = energy_of(None, read_results(folder), Power())
    assert energy is not None
    seconds, kwh, kg = (sum(column) for column in zip(*rows, strict=True))
    assert (energy.hours * 3600, energy.kwh, energy.kg_co2e) == pytest.approx((seconds, kwh, kg))


@pytest.mark.parametrize("num_processes", [None, 0, -2, "4", True])
def test_processes_that_are_no_number_count_as_one(made, num_processes):
    run = made.run("r", [3.0, 2.0], device_name="Tesla T4", num_processes=num_processes)
    energy = energy_of(run, Results(), Power())
    assert energy is not None
    assert energy.how.startswith("An estimate, not a measurement: 1 x 70 W")
