"""The ideal: a process a core, each of which runs its share of the simulations in a loop, and nothing else.

With empty units of work: what mosaic_mpi's own empty unit costs without any dispatch, that is, a stand-in simulation
of one country (a parameter from a table, a random likelihood, packed into the bytes that travel).
"""

import chunk
import subprocess
import sys
import time
from pathlib import Path

import work


def main() -> None:
    if work.order().n_empty:
        work.answer(empty_s=stand_in_s(work.order().n_empty) / work.order().n_slots)
        return
    script = [sys.executable, str(Path(__file__).parent / "chunk.py")]
    n_slots, ids = work.order().n_slots, work.sim_ids()
    loops = [
        subprocess.Popen([*script, f"loop-{slot}", "--wait", *map(str, ids[slot::n_slots])])
        for slot in range(n_slots)
    ]
    while len(list(work.folder().glob("*.ready"))) < n_slots and all(loop.poll() is None for loop in loops):
        time.sleep(0.01)
    (work.folder() / "go").touch()  # all begin together
    codes = [loop.wait() for loop in loops]
    if any(codes):
        raise SystemExit("a loop has failed")
    work.answer(results=chunk.results())


def stand_in_s(n: int) -> float:
    """Seconds for so many stand-in simulations, one after the other."""
    import numpy as np

    from mosaic_mpi.parcel import Parcel
    from mosaic_mpi.simulation import Simulation
    from mosaic_mpi.units import Units

    stand_in = {"simulator": "fake:seconds=0", "locations": ("ETH",), "n_iterations": 1}
    plan = work.slot_plan(**stand_in, samples=work.smallest_samples(n))
    simulation, parcel = Simulation(plan), Parcel(plan.record_dtype, 0)
    simulation.run(0)
    units = Units(1).whole(np.arange(n)).tolist()
    began = time.perf_counter()
    for unit in units:
        parcel.add(simulation.run(unit))
        if parcel.is_full:
            parcel.payload()
            parcel.clear()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
