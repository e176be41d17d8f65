"""mosaic_mpi itself, as a user starts it, with or without a launcher; what it has done is read from its results file.

Its empty unit of work is a stand-in simulation of one country: a parameter from a table, and a stored result.
"""

import json
import os
import subprocess

import work

import mosaic_mpi


def main() -> None:
    order, output = work.order(), str(work.folder() / "run.h5")
    slots = "1" if order.mpirun else str(order.n_slots)
    command = [*order.mpirun, order.python, "-m", "mosaic_mpi", "run", "--output", output, "--slots", slots]
    if order.n_empty:
        command += ["--locations", "ETH", "--n-iterations", "1", "--samples", work.smallest_samples(order.n_empty)]
        subprocess.run(command, check=True, env={**os.environ, "MOSAIC_MPI_FAKE": "seconds=0"})
        status = [order.python, "-m", "mosaic_mpi", "status", "--json", output]
        found = json.loads(subprocess.run(status, check=True, capture_output=True).stdout)
        work.answer(empty_s=order.n_empty / found["simulations_per_s"])
        return
    command += ["--n-simulations", str(order.n_simulations), "--n-iterations", str(order.n_iterations)]
    command += ["--locations", ",".join(order.locations)] if order.locations else []
    command += ["--engine", work.engine_option()]
    subprocess.run(command, check=True)
    work.answer(results=results(output))


def results(path: str) -> list[dict[str, object]]:
    """The simulations of a results file."""
    file = mosaic_mpi.open(path)
    columns = {name: file.table(f"simulations/{name}") for name in ("rank", "slot", "finished_at", "elapsed_s")}
    return [
        {
            "sim_id": int(sim_id),
            "likelihoods": [float(value) for value in row],
            "process": f"{columns['rank'][index]}.{columns['slot'][index]}",
            "began": float(columns["finished_at"][index] - columns["elapsed_s"][index]),
            "finished": float(columns["finished_at"][index]),
        }
        for index, (sim_id, row) in enumerate(file.likelihoods().iterrows())
    ]


if __name__ == "__main__":
    main()
