"""Draw docs/display.svg: what a terminal shows of a real run, taken from a pseudo-terminal.

    python docs/make_display.py

Takes half a minute; needs the development extras (pyte).
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))

from terminal import Terminal  # noqa: E402

COLUMNS, LINES = 140, 19
SECONDS = 20.0
COMMAND = "run --locations ETH,KEN --n-simulations 200 --save reported_cases --output run.h5"
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
 font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""
"""As rich draws it, without a font from the network."""


def draw(terminal: Terminal) -> Text:
    """The screen with its colours."""
    text = Text("\n").join(map(draw_line, terminal.lines()))
    text.rstrip()
    return text


def draw_line(letters: list[Any]) -> Text:
    """One line of it."""
    text = Text()
    for letter in letters:
        colour = "" if letter.fg == "default" else f"#{letter.fg}" if len(letter.fg) == 6 else letter.fg
        text.append(letter.data, f"{'bold ' if letter.bold else ''}{colour}".strip())
    text.rstrip()
    return text


def main() -> None:
    """Run, look, stop, draw."""
    terminal = Terminal(COLUMNS, LINES)
    variables = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(REPOSITORY)}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mosaic_mpi", *COMMAND.split()]
        process = terminal.start(command, Path(folder), variables)
        terminal.wait_for(lambda screen: "log-likelihood" in screen, "results", 120)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            terminal.read(0.2)
        picture = draw(terminal)
        process.terminate()
        terminal.wait_for(lambda screen: "to resume" in screen, "the end")
        process.wait(60)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    console.print(picture)
    title = f"python -m mosaic_mpi {COMMAND}"
    console.save_svg(str(REPOSITORY / "docs" / "display.svg"), title=title, code_format=FORMAT)


if __name__ == "__main__":
    main()
