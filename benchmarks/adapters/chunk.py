"""Simulations of one process, for peers that start one for each unit of work; results go to a file, line by line.

python chunk.py NAME 1 2 3        results in NAME.jsonl, in the order's folder
python chunk.py NAME --wait 1 2   prepares itself, and begins when NAME.go is there
"""

import json
import sys
import time

import work


def main(name: str, words: list[str]) -> None:
    if words[0] == "--wait":
        work.prepare()
        words = words[1:]
        (work.folder() / f"{name}.ready").touch()
        while not (work.folder() / "go").exists():
            time.sleep(0.01)
    with open(work.folder() / f"{name}.jsonl", "w") as file:
        for sim_id in map(int, words):
            print(json.dumps(work.simulate(sim_id)), file=file, flush=True)


def results() -> list[object]:
    """What all processes have written."""
    return [json.loads(line) for path in work.folder().glob("*.jsonl") for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
