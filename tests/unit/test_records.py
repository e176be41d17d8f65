"""Records: bytes as HDF5 reads them back, and checksums that notice any change."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from mosaic_mpi.records import checksum, compress, compress_iteration, decompress, join_iterations, record_dtype

GENERATOR = np.random.default_rng(1)
ARRAYS: dict[str, NDArray[np.generic]] = {
    "counts": GENERATOR.poisson(3, (3, 2, 50)).astype("<i4"),
    "floats": GENERATOR.normal(size=(1, 4, 7)).astype("<f4"),
    "doubles": GENERATOR.normal(size=(2, 3, 5)),
    "not finite": np.array([[[np.nan, np.inf, -np.inf, -0.0]]]),
    "bytes": GENERATOR.integers(0, 255, (1, 1, 9)).astype("u1"),
    "one number": np.array([[[7]]], dtype="<i8"),
    "fortran order": np.asfortranarray(GENERATOR.normal(size=(2, 3, 5))),
    "zeros": np.zeros((2, 40, 100), "<i2"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_compressed_bytes_are_what_hdf5s_filters_read(tmp_path: Path, name: str) -> None:
    array = ARRAYS[name]
    with h5py.File(tmp_path / "file.h5", "w") as file:
        dataset = file.create_dataset(
            "x",
            (2, *array.shape),
            array.dtype,
            chunks=(1, *array.shape),
            shuffle=True,
            compression="gzip",
            compression_opts=1,
        )
        dataset.id.write_direct_chunk((1,) + (0,) * array.ndim, compress(array))
    with h5py.File(tmp_path / "file.h5") as file:
        assert file["x"][1].tobytes() == np.ascontiguousarray(array).tobytes()
        assert not file["x"][0].any()


@pytest.mark.parametrize("name", ARRAYS)
def test_decompress_undoes_compress(name: str) -> None:
    array = ARRAYS[name]
    again = decompress(compress(array), array.shape, array.dtype.str)
    assert again.dtype == array.dtype
    assert again.tobytes() == np.ascontiguousarray(array).tobytes()


def test_a_channel_without_a_single_number_can_be_compressed() -> None:
    array = np.empty((3, 0, 7), "<f4")
    assert decompress(compress(array), array.shape, "<f4").shape == array.shape
    assert join_iterations([compress_iteration(part) for part in array]) == compress(array)


@pytest.mark.parametrize("name", ARRAYS)
def test_iterations_compressed_apart_join_into_the_same_bytes(name: str) -> None:
    packed = [compress_iteration(array) for array in ARRAYS[name]]
    assert join_iterations(packed) == compress(ARRAYS[name])


@pytest.mark.parametrize(("n_iterations", "n_parameters", "n_channels"), [(1, 0, 0), (3, 5, 2), (2, 0, 1)])
def test_a_record_is_packed_without_gaps(n_iterations: int, n_parameters: int, n_channels: int) -> None:
    dtype = record_dtype(n_iterations, n_parameters, n_channels)
    assert dtype.itemsize == 8 * (6 + n_channels + n_iterations + n_parameters)
    assert np.zeros(2, dtype)["parameters"].shape == (2, n_parameters)


def a_record() -> NDArray[np.void]:
    record = np.zeros((), record_dtype(2, 3, 1))
    record["iteration_likelihood"] = [-1.5, np.nan]
    record["likelihood"] = -1.5
    record["parameters"] = [1.0, 2.0, 3.0]
    return record


def test_the_checksum_of_a_record_and_of_its_fields_agree() -> None:
    record = a_record()
    fields = {name: record[name] for name in ("likelihood", "iteration_likelihood", "parameters")}
    assert checksum(record, b"abc") == checksum(fields, b"abc")
    assert -(2**31) <= checksum(record, b"abc") < 2**31


def test_times_and_places_are_not_in_the_checksum() -> None:
    record = a_record()
    expected = checksum(record, b"abc")
    for name in ("elapsed_s", "finished_at", "slot"):
        record[name] = 7
    assert checksum(record, b"abc") == expected


@pytest.mark.parametrize("name", ["likelihood", "iteration_likelihood", "parameters"])
def test_every_flipped_bit_of_the_numbers_is_noticed(name: str) -> None:
    expected = checksum(a_record(), b"abc")
    n_bits = 8 * a_record()[name].nbytes
    for bit in range(n_bits):
        record = a_record().reshape(1)
        view = record[name].reshape(-1).view(np.uint8).copy()
        view[bit // 8] ^= 1 << bit % 8
        record[name] = view.view("<f8").reshape(record[name].shape)
        assert checksum(record[0], b"abc") != expected


@pytest.mark.parametrize("series", [b"", b"ab", b"abd", b"abc\0"])
def test_other_series_are_noticed(series: bytes) -> None:
    assert checksum(a_record(), series) != checksum(a_record(), b"abc")
