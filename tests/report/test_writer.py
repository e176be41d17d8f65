"""The command: what it writes, what it refuses, and following a run."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import made_runs
import pytest
from helpers import Cli, finished_run, make_plan, wait_until

from mosaic_mpi.errors import InputError
from mosaic_mpi.report import writer
from mosaic_mpi.report.snapshot import Snapshot, take
from mosaic_mpi.report.writer import write
from mosaic_mpi.summary import summarise


def test_the_command_writes_one_file_and_changes_nothing_else(cli: Cli) -> None:
    finished_run(cli.folder / "run.h5", make_plan(cli.folder, 4))
    before = (cli.folder / "run.h5").stat().st_mtime_ns
    done = cli("report", "run.h5", "--output", "report.html")
    assert done.returncode == 0, done.stderr
    assert "report.html: complete, 4 of 4 completed, 0 failed" in done.stdout
    assert done.stderr == ""
    assert (cli.folder / "report.html").read_text().startswith("<!doctype html>")
    assert (cli.folder / "run.h5").stat().st_mtime_ns == before
    assert not list(cli.folder.glob("report.html.tmp*"))
    assert cli("report", "run.h5").returncode == 0, "an older report is replaced"


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (".", "is a folder"),
        ("missing/report.html", "lies in none"),
        ("run.h5", "is a results file"),
        ("run.h5.spool", "is a results file or part of one"),
        ("notes.txt", "exists and is no report"),
        ("pipe", "is no file"),
        ("/dev/full", "is no file"),
    ],
)
def test_names_at_which_something_would_be_lost_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    made_runs.stopped(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    kept = {name: (tmp_path / name).read_bytes() for name in ("run.h5", "run.h5.spool", "notes.txt")}
    with pytest.raises(InputError, match=why):
        write("run.h5", output)
    assert kept == {name: (tmp_path / name).read_bytes() for name in kept}


def test_what_is_no_results_file_is_refused_in_words(cli: Cli) -> None:
    done = cli("report", "missing.h5")
    assert (done.returncode, done.stderr) == (2, "mosaic_mpi: missing.h5: no such file\n")
    (cli.folder / "text.h5").write_text("text")
    assert "not an HDF5 file" in cli("report", "text.h5").stderr
    assert cli("report", "text.h5", "--follow", "-1").returncode == 2
    assert not (cli.folder / "report.html").exists()


def test_a_link_to_a_report_stays_a_link(tmp_path: Path) -> None:
    path = made_runs.stopped(tmp_path)
    (tmp_path / "public").mkdir()
    link = tmp_path / "report.html"
    link.symlink_to(tmp_path / "public" / "run.html")
    for _ in ("made", "replaced"):
        write(path, str(link))
        assert link.is_symlink()
        assert (tmp_path / "public" / "run.html").read_text().startswith("<!doctype html>")
    assert [entry.name for entry in (tmp_path / "public").iterdir()] == ["run.html"]


def test_a_name_beyond_the_locale_is_shown_in_the_page(cli: Cli) -> None:
    finished_run(cli.folder / "Fälle.h5", make_plan(cli.folder, 4))
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = cli("report", "Fälle.h5", "--output", "Bericht ä.html", **plain)
    assert done.returncode == 0, done.stderr
    assert "<h1>Fälle.h5</h1>" in (cli.folder / "Bericht ä.html").read_text(encoding="utf-8")


def test_a_lost_spool_costs_only_its_section(tmp_path: Path) -> None:
    path = made_runs.stopped(tmp_path)
    os.unlink(f"{path}.spool")
    write(path, str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "The saved time series cannot be read" in page
    assert "run.h5.spool: missing" in page


def test_following_a_run_rewrites_the_page_until_the_run_ends(cli: Cli) -> None:
    words = ("run", "--locations", "ETH", "--n-simulations", "40", "--slots", "2", "--save", "fake")
    run = cli.start(*words, fake="seconds=0.1")
    path = cli.folder / "mosaic_run.h5"
    wait_until(lambda: path.exists() and summarise(str(path)).state == "running", "a running run")
    run.send_signal(signal.SIGSTOP)  # so that it has not ended before there is a report, however long that takes
    following = cli.start("report", "mosaic_run.h5", "--follow", "1")
    page = cli.folder / "report.html"
    wait_until(page.exists, "the first report")
    first = page.read_text()
    run.send_signal(signal.SIGCONT)
    assert '<meta http-equiv="refresh"' in first
    assert '<span class="chip busy">running</span>' in first
    assert cli.end(run).returncode == 0
    done = cli.end(following)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) >= 2
    assert "running" in lines[0]
    assert "complete, 40 of 40 completed" in lines[-1]
    last = page.read_text()
    assert 'http-equiv="refresh"' not in last
    assert '<span class="chip good">complete</span>' in last


@pytest.mark.parametrize("n_times", [2, 3])
def test_following_bears_a_file_that_is_away_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_times: int
) -> None:
    path = made_runs.stopped(tmp_path)
    looks = iter([True, *[None] * n_times, False])
    lines: list[str] = []

    def look(path: str) -> Snapshot:
        is_running = next(looks)
        if is_running is None:
            raise InputError(f"{path}: no such file")
        found = take(path)
        return replace(found, summary=replace(found.summary, state="running" if is_running else "stopped"))

    monkeypatch.setattr(writer, "take", look)
    monkeypatch.setattr(writer, "_TRY_AGAIN_SECONDS", 0.0)
    if n_times < 3:
        writer.follow(path, str(tmp_path / "report.html"), 0.01, lines.append)
        assert ["running" in line for line in lines] == [True, False]
    else:
        with pytest.raises(InputError, match="no such file"):
            writer.follow(path, str(tmp_path / "report.html"), 0.01, lines.append)


def test_ctrl_c_ends_the_following_quietly_and_not_the_run(cli: Cli) -> None:
    run = cli.start("run", "--locations", "ETH", "--n-simulations", "40", fake="seconds=0.1")
    wait_until(lambda: '"state": "running"' in cli("status", "mosaic_run.h5", "--json").stdout, "a running run")
    following = cli.start("report", "mosaic_run.h5", "--follow", "1")
    wait_until((cli.folder / "report.html").exists, "the first report")
    following.send_signal(signal.SIGINT)
    done = cli.end(following)
    assert (done.returncode, done.stderr) == (0, "")
    assert cli.end(run).returncode == 0
