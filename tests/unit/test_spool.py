"""The spool: appended bytes, and nothing beyond what was committed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mosaic_mpi.errors import InputError
from mosaic_mpi.spool import Spool

ID, OTHER = "a" * 32, "b" * 32


def path_in(folder: Path) -> str:
    return str(folder / "run.h5.spool")


def test_what_is_appended_is_read_back_also_after_reopening(tmp_path: Path) -> None:
    with Spool(path_in(tmp_path), ID) as spool:
        places = [(spool.append(memoryview(data)), data) for data in (b"one", b"", b"two" * 1000)]
    with Spool(path_in(tmp_path), ID, must_exist=True) as spool:
        assert spool.size() == Spool.HEADER_BYTES + 3 + 3000
        for start, data in places:
            assert spool.read(start, len(data)) == data
        assert spool.append(memoryview(b"next")) == Spool.HEADER_BYTES + 3003


def test_truncation_forgets_the_end_and_never_grows(tmp_path: Path) -> None:
    with Spool(path_in(tmp_path), ID) as spool:
        start = spool.append(memoryview(b"kept"))
        spool.append(memoryview(b"lost"))
        spool.truncate(start + 4)
        spool.truncate(start + 400)
        assert spool.append(memoryview(b"new")) == start + 4
        spool.sync()
    assert Path(path_in(tmp_path)).read_bytes()[Spool.HEADER_BYTES :] == b"keptnew"


@pytest.mark.parametrize("content", [b"", b"mosaic_mpi", b"rubbish" * 100])
def test_a_spool_of_another_file_is_replaced_if_nothing_is_needed_of_it(tmp_path: Path, content: bytes) -> None:
    Path(path_in(tmp_path)).write_bytes(content)
    with Spool(path_in(tmp_path), ID) as spool:
        assert spool.size() == Spool.HEADER_BYTES
    with Spool(path_in(tmp_path), OTHER) as spool:
        assert spool.size() == Spool.HEADER_BYTES


@pytest.mark.parametrize("content", [None, b"", b"rubbish" * 100])
def test_a_spool_that_is_needed_must_be_there_and_is_not_touched(tmp_path: Path, content: bytes | None) -> None:
    path = Path(path_in(tmp_path))
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"run.h5.spool: missing, or not the one.*--overwrite"):
        Spool(str(path), ID, must_exist=True)
    assert (path.read_bytes() if path.exists() else None) == content
