"""Run a command for which the kernel refuses certain system calls, as some file systems do (a seccomp filter).

    python kernel_says_no.py flock COMMAND …          flock() fails with ENOLCK
    python kernel_says_no.py quota=BYTES COMMAND …    pwrite() from that offset on fails with EDQUOT

Linux on x86-64 and 64-bit ARM.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

_CALLS = {"x86_64": {"flock": 73, "pwrite": 18}, "aarch64": {"flock": 32, "pwrite": 68}}
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _FOURTH_ARGUMENT = 0, 16 + 3 * 8
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2

COMMAND = [sys.executable, __file__]


def _rules(what: str) -> list[tuple[int, int, int, int]]:
    calls = _CALLS[platform.machine()]
    kind, _, size = what.partition("=")
    if kind == "flock":
        return [
            (_LOAD, 0, 0, _NUMBER),
            (_EQUAL, 0, 1, calls["flock"]),
            (_RETURN, 0, 0, _ERRNO | errno.ENOLCK),
            (_RETURN, 0, 0, _ALLOW),
        ]
    return [
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 0, 3, calls["pwrite"]),
        (_LOAD, 0, 0, _FOURTH_ARGUMENT),
        (_AT_LEAST, 0, 1, int(size)),
        (_RETURN, 0, 0, _ERRNO | errno.EDQUOT),
        (_RETURN, 0, 0, _ALLOW),
    ]


def refuse(what: str) -> None:
    """Have the kernel say no, to this process and to all that it starts."""
    rules = _rules(what)
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *rule) for rule in rules))
    program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(rules), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    for call in ((_PR_SET_NO_NEW_PRIVS, 1, 0), (_PR_SET_SECCOMP, _FILTER, ctypes.addressof(program))):
        if prctl(*call, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
