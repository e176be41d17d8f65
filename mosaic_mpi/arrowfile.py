"""Reading Parquet and CSV files into Arrow tables.

Nothing here lets Arrow's thread pools touch an object of Python: a pool thread that releases one while the
interpreter shuts down aborts the process with "terminate called without an active exception" after all its work is
done (seen in 5 of 160 exports; https://github.com/apache/arrow/issues/34314).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(source: str | os.PathLike[str] | bytes) -> pa.Table:
    """Read a Parquet file in the calling thread alone.

    Parameters
    ----------
    source : str, path or bytes
        The file's path, or its contents.

    Returns
    -------
    pyarrow.Table
        All its columns and rows.

    Raises
    ------
    pyarrow.ArrowException
        It is not a Parquet file, or a damaged one.
    OSError
        It cannot be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    with pa.BufferReader(source) if isinstance(source, bytes) else pa.OSFile(os.fspath(source)) as file:
        return parquet.ParquetFile(file, pre_buffer=False).read(use_threads=False)


def read_csv(path: str | os.PathLike[str]) -> pa.Table:
    """Read a CSV file with a header line.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    pyarrow.Table
        All its columns and rows.

    Raises
    ------
    pyarrow.ArrowException
        It is no CSV file.
    OSError
        It cannot be read.
    """
    from pyarrow import csv

    return csv.read_csv(os.fspath(path), csv.ReadOptions(use_threads=False))
