"""What the virtual cluster plays, checks and computes; the last test plays one small cluster through MPI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import begin, make_plan

import mosaic_mpi
from mosaic_mpi.records import decompress, join_iterations, record_dtype
from mosaic_mpi.store import Store
from mosaic_mpi.units import Units

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


# ---- the play ---------------------------------------------------------------------------------------


def test_slots_take_what_waits_one_after_the_other(load) -> None:
    """Two ranks of two slots, 10 s a simulation: a late look at the timer delays nothing in the play."""
    units = Units(3)
    fleet = load("played_fleet").Fleet(2, 2, 10.0, 0.0, units)
    fleet.give(0, units.whole(np.arange(5)), 100.0)
    fleet.give(1, units.whole(np.array([7])), 103.0)
    assert len(fleet.advance(109.9)[0]) == 0
    slots, found, elapsed_s, ended = fleet.advance(125.0)
    assert [slots.tolist(), units.rows(found).tolist()] == [[0, 1, 2, 0, 1], [0, 1, 7, 2, 3]]
    assert ended.tolist() == [110.0, 110.0, 113.0, 120.0, 120.0]
    assert elapsed_s.tolist() == [10.0] * 5
    assert len(fleet.drop_backlog(0)) == 0, "the fifth has begun"
    assert fleet.advance(130.0)[3].tolist() == [130.0]
    assert fleet.first_idle_at == 0.0, "of the slot that never had anything to do"


def test_an_iteration_takes_its_share_of_a_simulation(load) -> None:
    units = Units(3)
    fleet = load("played_fleet").Fleet(1, 2, 9.0, 0.0, units)
    fleet.give(0, np.array([units.parts(4)[1], units.whole(np.array([5]))[0]]), 0.0)
    assert fleet.advance(3.0)[1].tolist() == [units.parts(4)[1]]
    assert fleet.first_idle_at == 0.0
    assert fleet.advance(9.0)[1].tolist() == units.whole(np.array([5])).tolist()
    assert fleet.first_idle_at == 3.0


def test_what_is_not_begun_can_be_taken_back(load) -> None:
    units = Units(3)
    fleet = load("played_fleet").Fleet(1, 1, 9.0, 0.0, units)
    fleet.give(0, units.whole(np.arange(3)), 0.0)
    assert units.rows(fleet.drop_backlog(0)).tolist() == [1, 2]
    assert units.rows(fleet.advance(100.0)[1]).tolist() == [0]


def test_played_series_can_be_read_and_joined(load) -> None:
    """As a real slot's: whole or in iterations, they come to the same bytes."""
    played = load("played_results").PlayedResults(record_dtype(3, 5, 1), 3, 40)
    (whole,) = played.series(9)
    assert join_iterations([played.part(9, iteration) for iteration in (1, 2, 3)]) == whole
    assert decompress(whole, (3, 3, 40), "<i4").max() > 0
    assert played.series(9) == played.series(9 + 8) != played.series(10)
    assert load("played_results").PlayedResults(record_dtype(3, 5, 1), 3, 40).records.tobytes() == (
        played.records.tobytes()
    )


def test_lateness_is_known_to_a_few_percent(load) -> None:
    lateness = load("lateness").Lateness()
    assert lateness.quantile_s(0.99) == 0.0
    lateness.add(np.full(900, 0.001))
    lateness.add(np.full(100, 0.5))
    assert lateness.quantile_s(0.5) == pytest.approx(0.001, rel=0.07)
    assert lateness.quantile_s(0.99) == lateness.most_s == 0.5


# ---- figures ----------------------------------------------------------------------------------------


def test_busy_time_between_two_moments(load) -> None:
    began, ended = np.array([0.0, 5.0, 9.0]), np.array([6.0, 8.0, 12.0])
    assert load("virtual_figures").busy_s(began, ended, 4.0, 10.0) == 2 + 3 + 1


def test_a_perfect_master_gives_the_next_to_the_first_free_slot(load) -> None:
    assert load("virtual_figures").ideal_s(np.array([4.0, 1.0, 1.0, 1.0, 3.0]), 2) == 6.0


def test_waiting_is_taken_between_samples(load) -> None:
    samples = np.array([[0.0, 1.0, 0.0], [10.0, 3.0, 0.0], [20.0, 3.0, 0.0]])
    assert load("virtual_figures").waited_s(samples, 5.0, 15.0) == pytest.approx(1.0)
    assert load("virtual_figures").waited_s(samples[:0], 5.0, 15.0) == 0.0


@pytest.mark.parametrize(
    ("late_s", "waited", "core", "who"),
    [
        (0.003, 0.0, 0.5, ""),
        (0.003, 0.0, 0.95, "rank 0"),
        (0.003, 0.3, 0.6, "other programs"),
        (0.2, 0.0, 0.95, "players"),
    ],
)
def test_who_is_to_blame(load, late_s: float, waited: float, core: float, who: str) -> None:
    found = {"late_p99_s": late_s, "rank_0_waited": waited, "rank_0_core": core}
    assert load("virtual_figures").limit(found) == who


def test_saturation_lies_between_the_cases_around_it(load) -> None:
    saturation = load("virtual_figures").saturation
    measured = [(1000.0, 1.0), (2000.0, 1.0), (4000.0, 0.8)]
    assert saturation(measured, 0.9) == pytest.approx(2000 * 2**0.5 * 0.9)
    assert saturation(measured, 0.7) is None


def _stored(folder: Path, load: object, wrong_row: int | None = None) -> tuple[object, object]:
    """A results file as the play fills it, its case, and the shape of its channel."""
    plan = make_plan(folder, n_simulations=12, n_iterations=3, save=["fake"])
    case = load("virtual_cases").Case(4, 2, per_slot=3, n_countries=1, has_series=True)
    shape = plan.channels[0].shape
    played = load("played_results").PlayedResults(plan.slot_plan().record_dtype, *shape)
    rows = np.arange(12)
    records = played.records[rows].copy()
    records["row"], records["elapsed_s"], records["finished_at"] = rows, 1.0, 100.0
    if wrong_row is not None:
        records["likelihood"][wrong_row] += 1
    with_store = Store(str(folder / "run.h5"), plan)
    begin(with_store)
    series = [memoryview(b"".join(played.series(int(row)))) for row in rows]
    with_store.add(records, series, 1, 0, np.ones(12, np.int32))
    with_store.end_start(1)
    with_store.fold(lambda: None)
    with_store.close()
    return mosaic_mpi.open(str(folder / "run.h5")), (case, shape)


@pytest.mark.parametrize("wrong_row", [None, 7])
def test_a_file_is_compared_with_what_was_played(
    load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong_row: int | None
) -> None:
    run, (case, shape) = _stored(tmp_path, load, wrong_row)
    figures = load("virtual_figures")
    monkeypatch.setattr(load("virtual_cases").Case, "n_days", shape[1])
    if wrong_row is None:
        figures.check(run, case)
        assert figures.series_bytes(run, case) == sum(
            len(data) for _, (data,) in run.stored_series(np.arange(12), ["fake"])
        )
    else:
        with pytest.raises(SystemExit, match="simulations/likelihood of row 7 is not what was played"):
            figures.check(run, case)


# ---- the report -------------------------------------------------------------------------------------


def _figures(load, **known: float) -> dict[str, float]:
    names = [name for _, name, *_ in load("virtual_report")._COLUMNS]
    return dict.fromkeys([*names, "rank_0_waited"], 0.0) | known


def test_a_case_measured_again_takes_the_place_of_its_earlier_figures(load, tmp_path: Path) -> None:
    report, case, path = load("virtual_report"), load("virtual_cases").Case, tmp_path / "results" / "found.json"
    for efficiency in (0.5, 0.9):
        report.keep(path, "scalars", "Open MPI 5", case(120), [_figures(load, efficiency=efficiency)])
    report.keep(path, "scalars", "Open MPI 5", case(240), [_figures(load), _figures(load, efficiency=1.0)])
    report.keep(path, "scalars", "MPICH 4", case(240), [_figures(load)])
    entries = json.loads(path.read_text())["groups"]["scalars"]
    assert [(entry["library"], entry["n_slots"]) for entry in entries] == [
        ("MPICH 4", 240),
        ("Open MPI 5", 120),
        ("Open MPI 5", 240),
    ]
    assert entries[1]["figures"]["efficiency"] == {"median": 0.9, "min": 0.9, "max": 0.9, "n": 1}
    lines = report.table(json.loads(path.read_text())).splitlines()
    assert len(lines) == 2 + 3
    assert "| 90.0 |" in lines[3]
    assert "50.0 (0.0 to 100.0)" in lines[4]


def test_table_and_plot_tell_where_rank_0_saturates(load, tmp_path: Path) -> None:
    report, path = load("virtual_report"), tmp_path / "found.json"
    for n_slots, steady in ((480, 1.0), (960, 1.0), (1920, 0.5)):
        case = load("virtual_cases").Case(n_slots, seconds=0.01)
        report.keep(path, "fast", "MPICH 4", case, [_figures(load, steady=steady, rank_0_core=0.99)])
    found = json.loads(path.read_text())
    said = report.table(found)
    assert "fast, MPICH 4: 97 % of slot time used up to" in said
    assert said.count("| rank 0 |") == 3
    pytest.importorskip("matplotlib")
    report.plot(found, tmp_path / "found.svg")
    assert (tmp_path / "found.svg").read_text().rstrip().endswith("</svg>")


# ---- through MPI ------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["OPENMPI", "MPICH"])
@pytest.mark.xdist_group("virtual cluster")
def test_a_small_cluster_is_played(library: str) -> None:
    python = os.environ.get(f"MOSAIC_MPI_TEST_{library}")
    if not python:
        pytest.skip(f"no environment with {library}")
    command = [
        *(sys.executable, str(BENCHMARKS / "virtual_cluster.py"), "--mpirun", str(Path(python).with_name("mpirun"))),
        *("--slots", "40", "--slots-per-rank", "8", "--seconds", "0.3", "--per-slot", "1.25"),
        *("--countries", "1", "--series", "--players", "2"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert 0 < found["efficiency"] < 1
    assert found["results_per_s"] == pytest.approx(50 / found["time_s"])
    assert 0 < found["tail_s"] <= found["time_s"]
    assert 0 < found["rank_0_pss_mb"] <= found["rank_0_resident_mb"]
    assert found["late_most_s"] > 0
