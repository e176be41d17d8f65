"""That benchmarks can be started, and what they compute from what they measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path for path in BENCHMARKS.glob("*.py") if '__name__ == "__main__"' in path.read_text())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_help(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(script), "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_machine_and_spread(load) -> None:
    found = load("machine").machine()
    assert set(found) == {"cpu", "n_cores", "kernel", "versions"}
    assert found["versions"]["python"].split(".")[0] == "3"
    assert load("machine").spread([3.0, 1.0, 10.0]) == {"median": 3.0, "min": 1.0, "max": 10.0, "n": 3}


# ---- peers ------------------------------------------------------------------------------------------


def result(process: str, began: float, finished: float) -> dict[str, object]:
    return {"process": process, "began": began, "finished": finished}


def test_rates_of_slots_that_wait_for_none_and_of_all_together(load) -> None:
    """One process a result every 2 s from 0 to 8, the other every 4 s from 8 to 20."""
    results = [result("a", end - 2, end) for end in (2.0, 4.0, 6.0, 8.0)]
    results += [result("b", end - 4, end) for end in (12.0, 16.0, 20.0)]
    peer_results = load("peer_results")
    assert peer_results.ideal_rate(results) == pytest.approx(1 / 2 + 1 / 4)
    found = peer_results.measures(results, 2, began=-3.0, ended=21.0)
    assert found["simulations_per_s"] == pytest.approx(7 / 20)
    assert found["busy_share"] == pytest.approx(20 / 40)
    assert (found["first_result_s"], found["whole_run_s"]) == (5.0, 24.0)


def test_ratios_are_to_the_reference_of_the_same_round(load) -> None:
    rounds = [
        {
            "ideal": {"simulations_per_s": 9.0, "ideal_per_s": 10.0, "identical": True},
            "peer": {"simulations_per_s": 5.0, "ideal_per_s": 6.0, "identical": True},
        },
        {
            "ideal": {"simulations_per_s": 2.0, "ideal_per_s": 2.0, "identical": True},
            "peer": {"simulations_per_s": 1.8, "ideal_per_s": 1.9, "identical": False},
        },
        {"ideal": {"simulations_per_s": 2.0, "ideal_per_s": 2.0, "identical": True}},
    ]
    summary = load("peer_results").summarise(rounds, "ideal")
    assert summary["peer"]["ratio"] == {"median": 0.7, "min": 0.5, "max": 0.9, "n": 2}
    assert summary["peer"]["identical"] is False
    assert summary["ideal"]["simulations_per_s"]["n"] == 3
    shown = load("peer_results").table(summary, {})
    assert summary["ideal"]["ratio"]["min"] == 0.9, "its own tail counts"
    assert "| peer | 3.400 (1.800 to 5.000) | 0.700 (0.500 to 0.900) |" in shown
    assert "NO" in shown


def test_memory_of_what_a_command_leaves_behind(load, tmp_path: Path) -> None:
    """What detaches itself is found, counted and ended."""
    processes = load("processes")
    child = (
        "import os,time; os.setsid(); x = b'1' * (64 << 20); open('pid', 'w').write(f'{os.getpid()}'); time.sleep(60)"
    )
    parent = f"import subprocess,sys,time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(2)"
    processes._INTERVAL_S, processes._LINGER_S = 0.2, 0.5
    measured = processes.Measured([sys.executable, "-c", parent], dict(os.environ), str(tmp_path))
    assert measured.wait(60) == 0
    assert measured.peak_bytes > 64 << 20
    left = int((tmp_path / "pid").read_text())
    assert processes._is_zombie(left)


# ---- planning ---------------------------------------------------------------------------------------


def test_a_dry_run_is_read(load) -> None:
    said = """\
dry run      nothing was written
slots        4 on 1 ranks; tried on 2 at once
file         run.h5: new; 42.5 MiB when complete (twice the time series while it completes)
memory       1.5 GiB: 76.3 MiB a slot, 476 MiB a rank
work         2 core-hours at 24.1 s a simulation
wall time    about 1 h, 4 core-hours held; 38 s to start, then 2 simulations a slot"""
    assert load("planning").predicted(said) == {
        "wall_s": 3600.0,
        "work_s": 7200.0,
        "memory_bytes": 1.5 * 2**30,
        "file_bytes": 42.5 * 2**20,
    }


# ---- cost -------------------------------------------------------------------------------------------

SHARES = [(1000.0, 1.0), (3000.0, 0.8), (4000.0, 0.5)]
MEASURED = {
    "machine": {},
    "ETH": {"simulation_s": {"stock, arrays": 1.5, "prepared": 0.8, "compiled": 0.01}},
    "40 countries": {"simulation_s": {"stock, arrays": 3.0, "prepared": 1.6, "compiled": 0.2}},
}


@pytest.mark.parametrize(
    ("offered", "share"), [(10, 1.0), (1000, 1.0), (2000, 0.9), (3500, 0.65), (4000, 0.5), (8000, 0.25)]
)
def test_slots_wait_as_measured_and_beyond_as_rank_0_is_full(load, offered: float, share: float) -> None:
    assert load("cost").busy_share(offered, SHARES) == pytest.approx(share)


def test_what_a_calibration_costs(load) -> None:
    """1200 slots that take 0.5 s offer 2400 a second, of which 2400 x 0.86 are done: 100 rounds in 50 / 0.86 s."""
    cost = load("cost")
    found = cost.cost(120_000, 0.5, 4.0, cost.Layout("10 nodes", 10, 120), SHARES)
    assert found["offered_per_s"] == 2400
    assert found["busy_share"] == pytest.approx(0.86)
    assert found["wall_s"] == pytest.approx(4 + 50 / 0.86)
    assert found["core_hours_held"] == pytest.approx((4 + 50 / 0.86) * 1200 / 3600)


def test_the_last_simulations_are_shared_out_by_iterations_if_they_are_long_enough(load) -> None:
    cost = load("cost")
    eight = cost.Layout("laptop", 1, 8)
    assert cost.cost(9, 3.0, 0.0, eight, SHARES)["wall_s"] == pytest.approx(4.0)
    assert cost.cost(9, 0.15, 0.0, eight, SHARES)["wall_s"] == pytest.approx(0.3)


def test_the_table_of_costs(load) -> None:
    cost = load("cost")
    found = cost.costs(MEASURED, SHARES, 4.0, 100_000)
    lines = cost.table(found).splitlines()
    assert len(lines) == 2 + 2 * 4
    assert "| one country: MOSAIC's local R worker | 2,000 ms | 55.6 | 6.9 h | 28 min |  |" in lines, (
        "1.5 s x 2.0 / 1.5"
    )
    assert "| 40 countries: mosaic_mpi, compiled | 200 ms | 5.56 | 42 min | 2.8 min |" in "\n".join(lines)
    compiled = found["one country"]["mosaic_mpi, compiled"]["layouts"]["10 nodes"]
    assert compiled["wall_s"] == pytest.approx(4.0 + 100_000 / 2000, rel=0.02), "rank 0 takes 4000 x 0.5 a second"


def test_costs_of_the_figures_that_are_kept(tmp_path: Path) -> None:
    output = tmp_path / "cost.json"
    command = [sys.executable, str(BENCHMARKS / "cost.py"), "--output", str(output)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count("mosaic_mpi, compiled") == 2
    told = json.loads(output.read_text())
    rows = [ways["mosaic_mpi, compiled"] for ways in told["costs"].values()]
    for row in rows:
        for name, layout in row["layouts"].items():
            n_slots = {"laptop": 8, "node": 120, "10 nodes": 1200}[name]
            assert layout["wall_s"] * n_slots / 3600 == pytest.approx(layout["core_hours_held"])
            assert layout["core_hours_held"] > row["core_hours"]
