"""A terminal that tests own: programs write to it, and its screen can be looked at and resized."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

pyte = pytest.importorskip("pyte", reason="pyte, which draws a terminal's screen, is absent: pip install '.[dev]'")


class Terminal:
    """A pseudo-terminal and its screen.

    Parameters
    ----------
    columns, lines : int
        Its size.
    """

    def __init__(self, columns: int = 80, lines: int = 40) -> None:
        self._columns, self._lines = columns, lines
        self._master, self._slave = pty.openpty()
        self._set_size()
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.received = b""

    def start(self, command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a command whose terminal this is."""
        return subprocess.Popen(
            command,
            cwd=folder,
            env=dict(variables),
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, columns: int) -> None:
        """Make it narrower or wider, as dragging a window does."""
        self.read(0.3)
        self._columns = columns
        self._set_size()
        self._screen.resize(self._lines, columns)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def read(self, seconds: float) -> None:
        """Take in what is written in this time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0]:
                data = os.read(self._master, 1 << 16)
                self.received += data
                self._stream.feed(data)

    @property
    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def lines(self) -> list[list[Any]]:
        """The characters on the screen, each with ``data``, ``fg`` and ``bold``."""
        return [[self._screen.buffer[row][column] for column in range(self._columns)] for row in range(self._lines)]

    def wait_for(self, condition: Callable[[str], object], what: str, seconds: float = 60.0) -> str:
        """Read until the screen is as wanted; return it."""
        deadline = time.monotonic() + seconds
        while not condition(self.text):
            assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s:\n{self.text}"
            self.read(0.05)
        return self.text

    def close(self) -> None:
        """Take it away."""
        os.close(self._master)
        os.close(self._slave)

    def _set_size(self) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", self._lines, self._columns, 0, 0))
