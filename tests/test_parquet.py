"""What a Parquet file unfolds to is what another library reads off it, and damage leads to no other error."""

from io import BytesIO

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sasrec.data import parquet
from sasrec.data.parquet import pages
from sasrec.errors import DataError


def by_polars(ids, compression="zstd"):
    buffer = BytesIO()
    pl.DataFrame({"id": ids}).write_parquet(buffer, compression=compression, row_group_size=4000)
    return buffer.getvalue()


def by_arrow(ids, **options):
    buffer = BytesIO()
    pq.write_table(pa.table({"id": ids.to_arrow(), "other": [True] * len(ids)}), buffer, **options)
    return buffer.getvalue()


NAMES = pl.Series([f"u{row % 700:05}" for row in range(10_000)])
FILES = {
    "text": by_polars(NAMES),
    "integers": by_polars(pl.Series(range(10_000))),
    "uncompressed": by_polars(NAMES, "uncompressed"),
    "nulls": by_polars(pl.Series([None, "a"] * 500)),
    "nobody": by_polars(pl.Series([], dtype=pl.String)),
    "small pages": by_arrow(NAMES, data_page_size=500, write_batch_size=50, row_group_size=3000),
    "pages of version 2": by_arrow(NAMES, data_page_version="2.0"),
    "checksums and statistics": by_arrow(NAMES, write_page_checksum=True, write_page_index=True),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_pages_add_up_to_what_another_library_says(data):
    told = pq.read_metadata(BytesIO(data))
    chunks = [told.row_group(row).column(at) for row in range(told.num_row_groups) for at in range(told.num_columns)]

    found = list(pages(data))

    assert sum(page.values for page in found) == sum(chunk.num_values for chunk in chunks)
    assert sum(page.bytes for page in found) == sum(chunk.total_uncompressed_size for chunk in chunks)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_values_that_may_unfold_to_more_than_their_page_are_refused(encoding, version):
    ids = pl.Series(["a" * 1000 + f"{row:04}" for row in range(1000)])
    options = {"use_dictionary": False, "column_encoding": {"id": encoding}, "data_page_version": version}

    with pytest.raises(DataError, match=r"encoded as sasrec encodes none \([67]\)"):
        list(pages(by_arrow(ids, **options)))


def test_a_page_of_two_kinds_is_refused():
    header = {2: 10, 3: 10, 5: {1: 1, 2: 0}, 8: {1: 10**9, 4: 0}}

    with pytest.raises(DataError, match="of no kind, or of several"):
        parquet._values(header)


def test_pages_are_told_one_at_a_time_whatever_comes_after_them():
    data = FILES["small pages"]
    offset = pq.read_metadata(BytesIO(data)).row_group(1).column(0).dictionary_page_offset

    broken = data[:offset] + b"\xff" * 20 + data[offset + 20 :]
    told = pages(broken)

    assert next(told).values == 0
    assert next(told).values > 0
    with pytest.raises(DataError):
        list(told)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "is no Parquet file"),
        (b"user\na\n", "is no Parquet file"),
        (b"PAR1", "outside"),
        (b"PAR1" + b"\xff" * 4 + b"PAR1", "outside"),
        (b"PAR1" + b"\x15\x02\x00" + b"\x03\0\0\0PAR1", "damaged"),  # a footer with a version alone
        (b"PAR1" + b"\x16" + b"\x80" * 20 + b"\x15\0\0\0PAR1", "more than 64 bits"),
        (b"PAR1" + b"\x1b\x00" + b"\x02\0\0\0PAR1", "what they never do"),  # a map
        (b"PAR1" + b"\x1c" * 100_000 + (100_000).to_bytes(4, "little") + b"PAR1", "damaged"),  # one within the other
    ],
)
def test_what_is_no_parquet_is_one_clear_error(data, found):
    with pytest.raises(DataError, match=found):
        list(pages(data))


@pytest.mark.parametrize("name", ["text", "small pages", "pages of version 2"])
def test_random_harm_to_headers_is_no_other_error_and_always_ends(name):
    rng = np.random.default_rng(3)
    whole = FILES[name]
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(len(data) - 600, len(data) - 4, 3):
            data[place] = rng.integers(256)

        try:
            for page in pages(bytes(data)):
                assert page.values >= 0
                assert page.bytes > 0
        except DataError:
            pass
