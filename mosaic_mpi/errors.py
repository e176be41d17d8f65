"""Every error a user can meet, and the exit code it ends with.

MosaicError
    InputError      an input, an option or a file is not what it must be (exit 2)
    PlanMismatch    the results file belongs to another plan (exit 2)
    FileInUse       another run writes the results file (exit 2)
    LaunchError     launcher, MPI library or hosts do not fit together (exit 2)
    Interrupted     the run was ended from outside (exit 75)
    StorageError    the results file cannot be written just now (exit 75)
    EngineError     the engine or its processes cannot run at all (exit 1)
"""

from __future__ import annotations

from collections.abc import Sequence

EXIT_COMPLETE = 0
EXIT_INTERNAL = 1
EXIT_INPUT = 2
EXIT_SOME_FAILED = 3
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: the same command resumes
EXIT_CODES = """exit codes: 0 complete, or nothing left to do; 1 internal error; 2 usage or input; 3 this start
finished it, some simulations failed; 75 stopped, the same command resumes"""
"""Of `run`, for its help."""


class MosaicError(Exception):
    """Base of all errors that are reported without a traceback."""

    exit_code = EXIT_INTERNAL


class InputError(MosaicError):
    """One or more problems of the input, reported together.

    Parameters
    ----------
    problems : str or sequence of str
        One line each: where, what was found, what is expected.
    """

    exit_code = EXIT_INPUT

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class PlanMismatch(InputError):
    """The results file was made by another plan."""


class FileInUse(InputError):
    """Another run holds the results file."""


class LaunchError(InputError):
    """The launcher, the MPI library or the hosts do not fit together."""


class Interrupted(MosaicError):
    """The run was ended from outside; what was finished is kept."""

    exit_code = EXIT_STOPPED


class StorageError(MosaicError):
    """The results file cannot be written; what was committed is safe."""

    exit_code = EXIT_STOPPED


class EngineError(MosaicError):
    """The engine cannot be imported, or its processes cannot be started."""
