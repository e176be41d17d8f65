"""First module that the fork server loads: nothing but the guards, before the seconds of engine import.

Import it in a fork server only: importing it changes the process.
"""

from mosaic_mpi.lifeline import ignore_signals, tie_to_parent

ignore_signals()
tie_to_parent()
