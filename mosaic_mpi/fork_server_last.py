"""Last module that the fork server loads: what every slot would import itself, and then everything is frozen.

Import it in a fork server only: importing it changes the process. Frozen, what has been loaded is neither scanned
nor written to by a slot's garbage collection, so that slots go on sharing its memory.
"""

import gc

import mosaic_mpi.mosaic.source
import mosaic_mpi.parameter_table
import mosaic_mpi.plan
import mosaic_mpi.serving
import mosaic_mpi.slot_process  # noqa: F401

gc.collect()
gc.freeze()
