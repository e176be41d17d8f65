"""What keeps the compiled loop from an engine, a NumPy or a machine with which it would not agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from outside_the_loop import OUTSIDE_THE_LOOP

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(300)

ONLY_BY_DIGEST = {
    "DerivedValues: hazard of nobody",  # the engine's own component computes it, in both
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


@pytest.fixture(scope="module")
def mutants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, bool, str | None, int | None]]:
    """By mutation: file, whether the digest is another, what the self-check says, when a search finds it."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(HERE / "mutants.py"),
        str(tmp_path_factory.mktemp("mutants")),
        "400",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[str, bool, str | None, int | None]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.xdist_group("mutants")  # which are made once
@pytest.mark.timeout(600)
def test_a_change_of_one_line_in_any_file_of_the_engine_is_noticed(mutants: dict[str, Any]) -> None:
    from mosaic_mpi import engine

    assert {file for file, *_ in mutants.values()} == {path.name for path in engine.sources()}
    assert all(is_other for _, is_other, _, _ in mutants.values()), "the digest notices every change"
    unnoticed = {
        name for name, (file, _, said, _) in mutants.items() if said is None and file not in OUTSIDE_THE_LOOP
    }
    assert unnoticed == ONLY_BY_DIGEST
    assert "births" in mutants["Susceptible: births follow the day after"][2]


@pytest.mark.xdist_group("mutants")
@pytest.mark.timeout(600)
def test_a_random_search_reaches_every_change_of_numbers(mutants: dict[str, Any]) -> None:
    """Else its configs would miss a branch."""
    missed = {name for name, (file, _, _, found) in mutants.items() if found is None and file not in OUTSIDE_THE_LOOP}
    assert missed <= ONLY_BY_DIGEST


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


SHORT = """
import os, signal, sys, time
from pathlib import Path
from mosaic_mpi import environment
environment.use_one_thread()
from mosaic_mpi.compiled import build
def short(number):
    return number + 1
build.loop.advance = short
cache = Path(sys.argv[1])
def built(*directories):
    advance, said = build.build((1,), *directories)
    assert advance(41) == 42
    return sum(advance.stats.cache_hits.values()), said
def files():
    return [path for path in cache.rglob("*") if path.suffix in (".nbi", ".nbc")]
"""
"""A loop that is compiled in no time, in the place of the real one."""


def short(folder: Path, code: str, *words: str) -> None:
    """Run code after `SHORT`, from a file, as Numba keeps the code of files alone; it must come to its end."""
    script = folder / "short.py"
    script.write_text(f"{SHORT}{code}\nprint('done')\n")
    run = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='short')"
    assert python(run, str(script), str(folder / "cache"), *words) == "done"


def test_damaged_or_incomplete_code_is_compiled_anew_once(tmp_path: Path) -> None:
    code = """
assert built(cache) == (0, None)
assert built(cache) == (1, None)
assert len(files()) == 2
for file in files():
    file.write_bytes(file.read_bytes()[:-20])
    assert built(cache) == (0, None), file.suffix
    assert built(cache) == (1, None), file.suffix
for file in files():
    file.unlink()
    assert built(cache) == (0, None), file.suffix
    assert built(cache) == (1, None), file.suffix
"""
    short(tmp_path, code)


def test_where_nothing_can_be_kept_the_next_directory_is_taken(tmp_path: Path) -> None:
    """The second start takes it from there."""
    code = """
in_the_way, other = cache.parent / "file", cache.parent / "other"
in_the_way.touch()
for n_hits in (0, 1):
    found, said = built(in_the_way, cache)
    assert found == n_hits
    assert said.startswith(f"compiled code is not kept in {in_the_way}: ")
    assert said.endswith(f"; it is kept in {cache}")
other.mkdir(0o777)
other.chmod(0o777)
found, said = built(in_the_way, other)
assert found == 0
assert said.count("compiled code is not kept in") == 2 and "open to others" in said
"""
    short(tmp_path, code)


def test_a_full_disk_is_done_without(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(full)], capture_output=True).returncode:
        pytest.skip("no tmpfs may be mounted here")
    try:
        code = """
full = Path(sys.argv[2])
assert built(full / "cache")[1] is None
file, = (path for path in full.rglob("*.nbc"))
file.unlink()
(full / "filler").touch()
try:
    (full / "filler").write_bytes(bytes(1 << 20))
except OSError:
    pass
found, said = built(full / "cache", cache)
assert found == 0 and "No space left" in said, said
assert built(full / "cache", cache)[0] == 1
assert not [path for path in full.rglob("*.tmp.*")]
"""
        short(tmp_path, code, str(full))
    finally:
        subprocess.run(["umount", str(full)], check=True)


def test_a_process_that_is_killed_while_it_compiles_is_not_waited_for(tmp_path: Path) -> None:
    code = """
build._WAIT_SECONDS = 1e6
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    with build._one_at_a_time(build.private_folder(cache, build._digest())) as is_mine:
        os.write(writer, b"1" if is_mine else b"0")
        time.sleep(1e6)
assert os.read(reader, 1) == b"1"
os.kill(child, signal.SIGKILL)
assert built(cache) == (0, None)
assert built(cache) == (1, None)
"""
    short(tmp_path, code)


def test_what_nobody_needs_is_removed_before_something_is_added(tmp_path: Path) -> None:
    """But nothing that is not ours: a user may name a directory that holds other things."""
    code = """
def there(name, age_s):
    path = cache / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - age_s,) * 2)
    return path
year = 365 * 86400
old, new, other = there("0" * 24 + "/lock", year), there("1" * 24 + "/lock", 86400), there("project/lock", year)
there("0" * 24 + "/compiled/loop.advance.1.nbc", year)
alike = [there("2" * 24 + name, year) for name in ("/lock", "/notes")]
alike.append(there("3" * 24 + "/lock", year))
ours = build._digest()
half_done = there(f"{ours}/compiled/short.nbc.tmp.0123", 86400)
cache.chmod(0o700)
being_written = there(f"{ours}/compiled/short.nbc.tmp.4567", 0)
(cache / ours).chmod(0o700)
assert built(cache) == (0, None)
assert not old.parent.exists() and new.exists() and other.exists()
assert all(path.exists() for path in alike), "called as ours are, but of another program"
assert not half_done.exists() and being_written.exists()
there(f"{ours}/lock", year)
assert built(cache) == (1, None)
assert time.time() - (cache / ours / "lock").stat().st_mtime < 86400, "used again"
"""
    short(tmp_path, code)


def test_code_of_others_is_not_run(tmp_path: Path) -> None:
    from mosaic_mpi.compiled.build import private_folder

    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(PermissionError, match="open to others"):
        private_folder(open_to_all, "code")
    mine = private_folder(tmp_path / "mine", "code")
    assert mine.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a link to somebody else")
def test_links_of_others_are_not_followed(tmp_path: Path) -> None:
    """Who owns a link could let it point to a folder of theirs, once code has been looked at."""
    from mosaic_mpi.compiled.build import private_folder

    private_folder(tmp_path / "mine", "code")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "mine")
    assert private_folder(link, "code") == link / "code"
    os.lchown(link, 65534, 65534)
    with pytest.raises(PermissionError, match="another user's"):
        private_folder(link, "code")


def test_code_made_with_other_settings_of_numba_keeps_apart() -> None:
    digest = "from mosaic_mpi.compiled import build; print(build._digest())"
    assert python(digest) == python(digest)
    assert python(digest) != python(digest, NUMBA_OPT="0")
