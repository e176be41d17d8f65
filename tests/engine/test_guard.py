"""What keeps the compiled loop from an engine, a NumPy or a machine with which it would not agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(300)

ONLY_BY_DIGEST = {
    "DerivedValues: hazard of nobody",  # the engine's own component computes it, in both
    "Infectious: an ulp in a constant",  # changes no draw of these configs
    "set-up: other seasons",  # set-up is the engine's own, in both
    "set-up: other limits",
    "model: a phase is skipped on the first day",  # not put in place of the engine's
    "Analyzer: writes of what it scores",  # idle, in both
    "Recorder: as the engine has it, but for a blank",
}


def python(code: str, *words: str, **variables: str) -> str:
    """What a fresh interpreter prints last."""
    command = [sys.executable, "-W", "ignore", "-c", code, *words]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_a_change_of_one_line_in_any_component_is_noticed(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", str(HERE / "mutants.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 22
    assert all(is_other for is_other, _ in found.values()), "the digest notices every change"
    assert {name for name, (_, said) in found.items() if said is None} == ONLY_BY_DIGEST
    assert "births" in found["Susceptible: births follow the day after"][1]


FIND = """
import ctypes, time
from mosaic_mpi import environment
environment.use_one_thread()
from mosaic_mpi import compiled_engine as here

def fail(*_):
    raise LookupError("no such loop")

def reason(owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    advance, told = here.find_loop()
    setattr(owner, name, before)
    assert advance is None
    print(told)

check = here.self_check
differing = check.differing
reason(here.engine, "caution", "the engine's sources are not known")
reason(here.np, "__version__", "9.9.1")
reason(here.numba.config, "DISABLE_JIT", 1)
reason(here, "build_loop", fail)
reason(check, "differing", lambda a, b: ["births", *differing(a, b)])
reason(check, "difference", fail)
reason(check, "difference", lambda advance: ctypes.string_at(0))
here._CHECK_SECONDS = 1.0
reason(check, "difference", lambda advance: time.sleep(250))
here._CHECK_SECONDS = 60.0
assert here.find_loop()[0] is not None
"""


def test_where_it_may_not_be_used_the_reason_is_told() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FIND]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "the engine's sources are not known",
        "the compiled loop is not known to agree with NumPy 9.9.1",
        "NUMBA_DISABLE_JIT is set: nothing is compiled",
        "the loop cannot be compiled: LookupError: no such loop",
        "the compiled loop disagrees here: all countries, seed 1: births",
        "the compiled loop disagrees here: LookupError: no such loop",
        "the compiled loop disagrees here: its process ended by SIGSEGV",
        "the compiled loop disagrees here: it took longer than 1 s",
    ]


BUILD = """
import sys
from mosaic_mpi import environment
environment.use_one_thread()
environment.use_cache_directory(sys.argv[1])
from mosaic_mpi import compiled_engine as here
print(here.advance is not None, here.reason or "-", sum(here.advance.stats.cache_misses.values()))
"""


def test_processes_that_start_at_once_compile_once(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    command = [sys.executable, "-W", "ignore", "-c", BUILD, str(cache)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = [process.communicate(timeout=280)[0].split() for process in started]
    assert [process.returncode for process in started] == [0] * 4
    assert sorted(answers) == [["True", "-", "0"]] * 3 + [["True", "-", "1"]]
    (folder,) = cache.iterdir()
    assert not [path for path in folder.rglob("*") if path.is_file() and path.suffix not in ("", ".nbi", ".nbc")]


DAMAGED = """
import sys
from pathlib import Path
from mosaic_mpi import environment
environment.use_one_thread()
from mosaic_mpi.compiled import build
def short(number):
    return number + 1
build.loop.advance = short
cache = Path(sys.argv[1])
first, said = build.build((1,), cache)
assert said is None and first(41) == 42
again, said = build.build((1,), cache)
assert said is None and again(41) == 42 and sum(again.stats.cache_hits.values()) == 1
files = [file for file in cache.rglob("*") if file.suffix in (".nbi", ".nbc")]
assert len(files) == 2
for file in files:
    whole = file.read_bytes()
    file.write_bytes(whole[:len(whole) // 2])
    without, said = build.build((1,), cache)
    assert without(41) == 42
    assert said is not None and "is not kept in" in said, file.suffix
    file.write_bytes(whole)
print("done without")
"""


def test_damaged_files_are_done_without(tmp_path: Path) -> None:
    script = tmp_path / "damaged.py"
    script.write_text(DAMAGED)
    run = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='damaged')"
    assert python(run, str(script), str(tmp_path / "cache")) == "done without"


def test_code_of_others_is_not_run(tmp_path: Path) -> None:
    from mosaic_mpi.compiled.build import private_folder

    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(PermissionError, match="open to others"):
        private_folder(open_to_all, "code")
    mine = private_folder(tmp_path / "mine", "code")
    assert mine.stat().st_mode & 0o777 == 0o700
