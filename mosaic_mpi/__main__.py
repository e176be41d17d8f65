"""`python -m mosaic_mpi`."""

import sys

from mosaic_mpi.cli import main

if __name__ == "__main__":
    sys.exit(main())
