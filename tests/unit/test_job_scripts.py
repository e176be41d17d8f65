"""What holds for the job scripts without a scheduler."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from helpers import Cli, finished_run, make_plan

JOBS = Path(__file__).parents[2] / "jobs"
SCRIPTS = sorted([*JOBS.glob("*/*.sbatch"), *JOBS.glob("*/*.pbs")])
SHARED = "# ---- the same in every job script"
FITTING = "fitting_mpi() {"


def ids(script: Path) -> str:
    """A script's name for a test's."""
    return f"{script.parent.name}/{script.name}"


def test_shared_part_is_the_same() -> None:
    """Each stands alone, so that a user can copy one; a change to one must reach all."""
    parts = {ids(script): script.read_text().partition(SHARED)[2] for script in SCRIPTS}
    without = {name for name, part in parts.items() if not part}
    assert without == {"slurm/merge.sbatch", "slurm/scaling.sbatch"}
    assert len({part for part in parts.values() if part}) == 1


def test_choice_of_mpi_is_the_same() -> None:
    texts = [script.read_text() for script in SCRIPTS]
    parts = [text[text.index(FITTING) : text.index("launch=(srun")] for text in texts if FITTING in text]
    assert len(parts) == 3
    assert len(set(parts)) == 1


def test_another_plan_against_a_complete_file_is_not_called_complete(cli: Cli) -> None:
    """The file is complete, but is not what was asked for."""
    script = cli.folder / "node.sbatch"
    edited = (
        (JOBS / "slurm" / "node.sbatch").read_text().replace('--save "reported_cases,reported_deaths"', "${MORE}")
    )
    script.write_text(edited)

    def submit(more: str) -> tuple[int, str]:
        words = {"N_SIMULATIONS": "4", "MORE": more, "SLURM_JOB_ID": "1"}
        done = cli.end(cli.launch(["bash", str(script)], **words))
        return done.returncode, done.stdout + done.stderr

    assert submit("--locations=ETH")[0] == 0
    assert submit("--locations=ETH")[0] == 0
    code, log = submit("--locations=KEN")
    assert code == 2, log
    assert "locations" in log
    assert "refused, see above" in log


@pytest.mark.parametrize("script", SCRIPTS, ids=ids)
def test_directives_come_first(script: Path) -> None:
    """A scheduler reads none after the first command."""
    lines = script.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert not [line for line in lines[first:] if line.startswith(("#SBATCH", "#PBS"))]


def test_scaling_table(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be compared is left out, with the reason."""
    monkeypatch.chdir(tmp_path)
    plan = make_plan(tmp_path)
    finished_run(Path("whole.h5"), plan)
    finished_run(Path("half.h5"), plan, rows=range(3))
    finished_run(Path("twice.h5"), plan, rows=range(3))
    finished_run(Path("twice.h5"), plan)
    main = runpy.run_path(str(JOBS / "scaling.py"))["main"]
    assert main(["whole.h5"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:5] == ["whole.h5", "1", "1", "2", "6"]
    assert main(["whole.h5", "half.h5", "twice.h5", "none.h5"]) == 1
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 2
    for reason in ("half.h5: left out: 3 of 6", "twice.h5: left out: 2 starts", "none.h5: left out: no readable"):
        assert reason in told.err


def test_efficiency() -> None:
    """Of a slot, relative to the smallest run."""
    rows = runpy.run_path(str(JOBS / "scaling.py"))["rows"]
    runs = [
        {
            "file": f"{n}.h5",
            "n_simulations": 100,
            "simulations_per_s": rate,
            "starts": [{"n_hosts": 1, "n_ranks": 1, "n_slots": n}],
        }
        for n, rate in ((4, 6.0), (1, 2.0))
    ]
    assert [(row[0], *row[3:]) for row in rows(runs)] == [
        ("1.h5", "1", "100", "2", "2", "100 %"),
        ("4.h5", "4", "100", "6", "1.5", "75 %"),
    ]
