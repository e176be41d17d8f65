"""The workstation's script: as it stands, and with a user's edit of its top lines."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from jobscripts import JOBS, edited, with_python
from launchers import alone
from runs import FAKE, REFERENCE, Run, Workplace, assert_kept, assert_same_numbers

pytestmark = pytest.mark.timeout(300)


def start_script(place: Workplace, script: Path, **variables: str) -> Run:
    """Start the workstation's script."""
    return place.start_command([str(script)], with_python(alone().python, **variables))


def test_workstation_as_it_stands(place: Workplace) -> None:
    ended = start_script(place, JOBS / "workstation.sh", N_SIMULATIONS="2").wait(120)
    assert ended.code == 0, ended.output
    assert place.n_completed == 2
    assert start_script(place, JOBS / "workstation.sh", N_SIMULATIONS="2").wait().code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workstation_stopped(place: Workplace, number: signal.Signals, reference: dict[str, np.ndarray]) -> None:
    script = edited("workstation.sh", place.folder, "--save fake --slots 2")
    slow = REFERENCE.replace("0.001", "0.1")  # long enough to be stopped half-way on a busy machine
    run = start_script(place, script, N_SIMULATIONS="40", MOSAIC_MPI_FAKE=slow)
    place.wait_for(4, run)
    run.signal_launcher(number)
    ended = run.wait(60)
    assert ended.code == 75, ended.output
    run.assert_no_orphans()
    again = start_script(place, script, N_SIMULATIONS="40", MOSAIC_MPI_FAKE=slow).wait()
    assert again.code == 0, again.output
    found = place.numbers()
    assert_same_numbers(found, reference)


def test_workstation_main_process_killed(place: Workplace) -> None:
    """It goes on by itself."""
    script = edited("workstation.sh", place.folder, "--save fake --slots 2")
    slow = FAKE.replace("0.05", "0.1")
    run = start_script(place, script, N_SIMULATIONS="40", MOSAIC_MPI_FAKE=slow)
    place.wait_for(4, run)
    before = place.numbers()
    run.ranks()[0].kill()
    ended = run.wait()
    assert ended.code == 0, ended.output
    assert "starting again" in ended.output
    assert "resumed" in ended.output
    assert place.n_completed == 40
    assert_kept(before, place.numbers())


def test_workstation_bad_input(place: Workplace) -> None:
    script = edited("workstation.sh", place.folder, "--config missing.json")
    ended = start_script(place, script, MOSAIC_MPI_FAKE=FAKE).wait(60)
    assert ended.code == 2, ended.output
    assert "starting again" not in ended.output
