"""What a person is told of the loops that ranks run, and what is waited for before that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import make_plan

import mosaic_mpi
from mosaic_mpi import engine_choice, layout
from mosaic_mpi.engine_choice import Verdict, is_stock_alone
from mosaic_mpi.errors import LaunchError
from mosaic_mpi.loops import Loops
from mosaic_mpi.plan import SlotPlan
from mosaic_mpi.ranks import Ranks
from mosaic_mpi.slot_messages import loop_message, verdict_of

COMPILED = Verdict("compiled")
STOCK = Verdict("stock", "the loop cannot be compiled: AttributeError: no 'compile'")
NOT_KEPT = Verdict("compiled", "compiled code is not kept in /tmp/mosaic_mpi-1000: No space left on device")


def of_laser(folder: Path, engine: str = "auto") -> SlotPlan:
    return replace(make_plan(folder).slot_plan(), simulator="laser", engine=engine)


def ready(hosts: Sequence[str], *slots: int) -> Ranks:
    """Ranks that have reported their slots."""
    ranks = Ranks(list(hosts), list(range(len(hosts))), 0.0)
    for rank, n_slots in enumerate(slots):
        ranks.report(rank, n_slots)
    return ranks


def told(plan: SlotPlan, hosts: Sequence[str], verdicts: Sequence[Verdict]) -> str:
    """What is said when all ranks have spoken."""
    loops = Loops(plan, hosts)
    for rank, verdict in enumerate(verdicts):
        loops.learn(rank, verdict)
    return loops.news(ready(hosts, *[1] * len(hosts)))


def test_where_all_agree_it_is_one_verdict(tmp_path: Path) -> None:
    plan = of_laser(tmp_path)
    assert told(plan, ["a", "b", "b"], [COMPILED] * 3) == "compiled"
    assert told(plan, ["a", "b"], [STOCK] * 2) == f"stock: {STOCK.reason}"


def test_hosts_without_it_come_first_with_the_reason(tmp_path: Path) -> None:
    hosts = ["a", "b", "c", "d", "d"]
    line = told(of_laser(tmp_path), hosts, [COMPILED, STOCK, NOT_KEPT, COMPILED, COMPILED])
    assert line == (f"stock on b ({STOCK.reason}); compiled on c ({NOT_KEPT.reason}); compiled on a, d")
    assert not is_stock_alone(line)
    assert is_stock_alone(told(of_laser(tmp_path), hosts, [STOCK] * 5))


def test_a_thousand_hosts_are_one_line_that_fits_into_the_file(tmp_path: Path) -> None:
    hosts = [f"{'n' * 40}{number:04}" for number in range(1000)]
    odd = [Verdict("stock", f"{'why ' * 60}{number}") for number in range(3)]  # differ in a number: one kind
    verdicts = [STOCK] * 300 + odd + [NOT_KEPT] * 100 + [Verdict("stock", word) for word in ("x", "y")]
    line = told(of_laser(tmp_path), hosts, verdicts + [COMPILED] * (1000 - len(verdicts)))
    room = next(table for table in layout.TABLES if table.name == "starts/engine").dtype
    assert len(line.encode()) <= int(room.removeprefix("|S"))
    assert line.startswith(f"stock on {hosts[403]} (x); stock on {hosts[404]} (y); stock on {hosts[300]}, ")
    assert line.endswith("; stock on 300 more hosts; compiled on 695 more hosts")


def test_nothing_is_told_before_all_have_spoken_who_have_slots_and_live(tmp_path: Path) -> None:
    hosts = ["a", "b", "c", "d"]
    loops, ranks = Loops(of_laser(tmp_path), hosts), ready(hosts, 0, 1, 1)
    loops.learn(1, COMPILED)
    loops.learn(2, STOCK)
    assert loops.news(ranks) == "", "rank 3 has not reported"
    ranks.report(3, 1)
    assert loops.news(ranks) == "", "nor said which loop it runs"
    ranks.give_up(3)
    assert loops.news(ranks) == f"stock on c ({STOCK.reason}); compiled on b", "rank 0 has no slots"
    assert loops.news(ranks) == "", "once"
    ranks.take_back(3)
    loops.learn(3, COMPILED)
    assert loops.news(ranks).endswith("compiled on b, d")


def test_at_the_end_what_is_known_is_told(tmp_path: Path) -> None:
    loops, ranks = Loops(of_laser(tmp_path), ["a", "b"]), ready(["a", "b"], 1, 1)
    assert loops.news(ranks, at_the_end=True) == ""
    loops.learn(0, COMPILED)
    assert loops.news(ranks, at_the_end=True) == "compiled"


def test_a_single_rank_is_not_told_of_twice_unless_it_changes(tmp_path: Path) -> None:
    loops, ranks = Loops(of_laser(tmp_path), ["a"], "compiled"), ready(["a"], 4)
    loops.learn(0, COMPILED)
    assert loops.news(ranks) == ""
    loops.learn(0, NOT_KEPT)
    assert loops.news(ranks) == str(NOT_KEPT)


def test_a_standin_for_the_engine_has_no_loops(tmp_path: Path) -> None:
    plan = replace(of_laser(tmp_path, "compiled"), simulator="fake")
    loops = Loops(plan, ["a", "b"])
    assert loops.may_begin(ready(["a", "b"]))
    assert loops.news(ready(["a", "b"], 1, 1), at_the_end=True) == ""


def test_who_asks_for_the_compiled_loop_waits_until_all_have_it(tmp_path: Path) -> None:
    hosts = ["a", "b"]
    loops, ranks = Loops(of_laser(tmp_path, "compiled"), hosts), ready(hosts, 1, 1)
    loops.learn(0, COMPILED)
    assert not loops.may_begin(ranks)
    loops.learn(1, NOT_KEPT)
    assert loops.may_begin(ranks)
    assert loops.news(ranks)
    loops.learn(1, STOCK)
    assert loops.may_begin(ranks), "later on a rank that has lost it is done without, as any whose slots do not start"
    assert not loops.is_refused(1)


def test_it_is_refused_with_every_host_that_has_not(tmp_path: Path) -> None:
    hosts = ["a", "b", "c"]
    loops, ranks = Loops(of_laser(tmp_path, "compiled"), hosts), ready(hosts, 0, 1, 1)
    loops.learn(2, STOCK)
    assert loops.is_refused(2)
    assert not loops.is_refused(1)
    ranks.break_down(2)
    assert not loops.may_begin(ranks)
    loops.learn(1, STOCK)
    with pytest.raises(LaunchError, match=r"stock on b, c \(the loop cannot be compiled"):
        loops.may_begin(ranks)
    loops.learn(1, COMPILED)
    with pytest.raises(LaunchError, match=r"stock on c \(the loop cannot be compiled"):
        loops.may_begin(ranks)


def test_slots_that_hang_as_they_start_are_not_waited_for_without_end(tmp_path: Path) -> None:
    hosts = ["a", "b", "c", "d", "d"]
    loops, ranks = Loops(of_laser(tmp_path, "compiled"), hosts, rank_timeout_s=400.0), ready(hosts, 0, 1, 1, 1, 1)
    loops.learn(1, COMPILED)
    ranks.break_down(2)
    assert not loops.may_begin(ranks, 800.0), "rank 3 may be silent, and given up after 400 s and a moment"
    with pytest.raises(LaunchError, match=r"no slot on d has said within 800 s which loop it runs"):
        loops.may_begin(ranks, 800.1)
    short = Loops(of_laser(tmp_path, "compiled"), hosts, rank_timeout_s=10.0)
    assert not short.may_begin(ranks, 300.0), "another process may be compiling"
    auto = Loops(of_laser(tmp_path), hosts, rank_timeout_s=400.0)
    assert auto.may_begin(ranks, 1e9)
    for rank in (3, 4):
        loops.learn(rank, COMPILED)
    assert loops.may_begin(ranks, 1e9)


def test_a_reason_of_several_lines_is_the_same_from_wherever_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(advance=None, reason="the loop cannot be compiled: TypingError: no\n  implementation\n")
    monkeypatch.setattr(mosaic_mpi, "compiled_engine", found, raising=False)
    of_rank_0 = engine_choice.verdict("auto")
    assert of_rank_0 == Verdict("stock", "the loop cannot be compiled: TypingError: no implementation")
    loops, ranks = Loops(of_laser(tmp_path), ["a"], str(of_rank_0)), ready(["a"], 1)
    loops.learn(0, verdict_of(memoryview(loop_message(of_rank_0))[1:]))
    assert loops.news(ranks) == "", "it was told already"
