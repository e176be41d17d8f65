"""A few lines on a terminal that are rewritten in place, with messages above them.

Owns what is sent to a terminal. Knows nothing of runs.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from mosaic_mpi.console import is_terminal
from mosaic_mpi.standing import Row

if TYPE_CHECKING:
    from rich.console import Console

_LABEL_COLUMNS = 12
_BAR_COLUMNS = 20
_LEAST_BAR_COLUMNS = 4
_DUMB = ("", "dumb", "unknown")
_USUAL_SIZE = os.terminal_size((80, 24))


def can_rewrite(stream: TextIO | None) -> bool:
    """Whether lines can be rewritten on a stream, and nothing else is likely to write between them.

    A terminal that cannot move its cursor gets lines, as a log does. So does one where standard output goes through
    a pipe (``| tee log``), whose other end writes to the same terminal when it likes.
    """
    if not is_terminal(stream) or os.environ.get("TERM", "") in _DUMB:
        return False
    return is_terminal(sys.stdout) or not _is_pipe(sys.stdout)


def _is_pipe(stream: TextIO | None) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode if stream is not None else 0
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class Display:
    """Lines on a terminal, rewritten in place until it is closed; a terminal that goes away is no error.

    Parameters
    ----------
    stream : TextIO
        A terminal; see `can_rewrite`.
    whole_screen : bool
        Use all of the screen, and bring back what was there at the end.
    """

    def __init__(self, stream: TextIO, whole_screen: bool = False) -> None:
        from rich.console import Console
        from rich.live import Live

        self._stream = stream
        self._rows: Sequence[Row] = ()
        self._console = Console(file=stream, force_terminal=True, force_jupyter=False, highlight=False, markup=False)
        self._size: os.terminal_size | None = None
        self._live: Any = Live(
            console=self._console,
            screen=whole_screen,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._fit()
        self._try(self._live.start)
        if not whole_screen:  # a process that is killed cannot bring the cursor back
            self._try(self._console.show_cursor, True)

    def show(self, rows: Sequence[Row]) -> None:
        """Show some lines in place of those before."""
        self._rows = rows
        self._fit()
        self._try(lambda: self._live.update(render(rows, self._console), refresh=True))

    def say(self, text: str) -> None:
        """Print a message above the lines, where it stays."""
        from rich.text import Text

        self._fit()
        self._try(lambda: self._console.print(Text(text.lstrip("\n")), soft_wrap=True))

    def fit(self) -> None:
        """Draw anew if the terminal has another size now."""
        if self._fit():
            self.show(self._rows)

    def close(self) -> None:
        """Leave the last lines, or the screen as it was."""
        self._fit()
        self._try(lambda: self._live.stop())
        self._live = None

    def _fit(self) -> bool:
        """Take the terminal's size as it is now; whether it has changed."""
        size = terminal_size(self._stream)
        changed, self._size = size != self._size, size
        if changed:
            self._console.size = _dimensions(size)
        return changed

    def _try(self, act: Any, *arguments: Any) -> None:
        """Draw, and never again once the terminal is gone."""
        if self._live is None:
            return
        try:
            act(*arguments)
        except (OSError, ValueError):
            self._live = None


def _dimensions(size: os.terminal_size) -> Any:
    from rich.console import ConsoleDimensions

    return ConsoleDimensions(size.columns, size.lines)


def terminal_size(stream: TextIO) -> os.terminal_size:
    """Return a terminal's size, or a usual one where it does not know."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return _USUAL_SIZE
    return size if size.columns > 0 and size.lines > 0 else _USUAL_SIZE


def render(rows: Sequence[Row], console: Console) -> Any:
    """Return rows as what `rich` draws: never wider than the terminal, never wrapped."""
    from rich.console import Group

    return Group(*(_line(row, console) if row.share is None else _bar(row, row.share, console) for row in rows))


def _line(row: Row, console: Console) -> Any:
    from rich.text import Text

    style = "bold red" if row.is_worrying else ""
    has_ellipsis = _as_shown("…", console) == "…"
    return Text.assemble(
        (_label(row), "dim"),
        (_as_shown(row.text, console), style),
        no_wrap=True,
        overflow="ellipsis" if has_ellipsis else "crop",
    )


def _as_shown(text: str, console: Console) -> str:
    """Text with the codes that will stand for what the terminal does not know, which count for the width too."""
    return text.encode(console.encoding, "backslashreplace").decode(console.encoding)


def _bar(row: Row, share: float, console: Console) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    width = min(_BAR_COLUMNS, console.width - _LABEL_COLUMNS - len(row.text) - 1)
    if width < _LEAST_BAR_COLUMNS:
        return _line(row, console)
    line = Table.grid()
    bar = ProgressBar(1.0, share, width, complete_style="green", finished_style="green")
    line.add_row(Text(_label(row), "dim"), bar, f" {row.text}")
    return line


def _label(row: Row) -> str:
    return row.label.ljust(_LABEL_COLUMNS)
