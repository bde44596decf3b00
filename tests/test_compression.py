"""Compressed logs: whole, bounded, and unpacked without a trace."""

import gzip
import os
import sys
import tempfile
from pathlib import Path

import pytest
import zstandard

from sasrec.data import compression
from sasrec.data.compression import unwrapped
from sasrec.errors import DataError

TEXT = b"user,item\n" + b"".join(b"u%d,i%d\n" % (n, n * 7919 % 104729) for n in range(3000))


def unpacked(path):
    with unwrapped(path) as plain:
        return plain.read_bytes()


def zstandard_compressed(content):
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


both = pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstandard_compressed)])


@both
def test_a_compressed_file_comes_back_to_the_byte(tmp_path, suffix, compress):
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(compress(TEXT))

    assert unpacked(path) == TEXT


@both
def test_compressed_files_one_after_the_other_are_one(tmp_path, suffix, compress):
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(compress(TEXT[:100]) + compress(TEXT[100:]))

    assert unpacked(path) == TEXT


@both
def test_what_is_inside_is_unwrapped_too(tmp_path, suffix, compress):
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(compress(compress(b"\xef\xbb\xbf" + TEXT)))

    assert unpacked(path) == TEXT


@both
def test_compression_inside_of_compression_ends(tmp_path, suffix, compress):
    content = TEXT
    for _ in range(600):
        content = compress(content)
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"^a\.csv\.\w+: is compressed, or has byte order marks, again and again"):
        unpacked(path)


def test_byte_order_marks_without_end_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf" * 600 + TEXT)

    with pytest.raises(DataError, match=r"^a\.csv: is compressed, or has byte order marks, again and again"):
        unpacked(path)


@both
def test_a_damage_further_inside_is_told_of_the_file_that_was_named(tmp_path, suffix, compress):
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(compress(compress(TEXT)[:-20]))

    with pytest.raises(DataError, match=r"^a\.csv\.\w+: the compressed file is cut short"):
        unpacked(path)


def test_the_content_and_not_the_suffix_tells_the_compression(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(gzip.compress(TEXT))

    assert unpacked(path) == TEXT


def test_a_plain_file_is_not_copied(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT)

    with unwrapped(path) as plain:
        assert plain == path


@both
def test_a_compressed_file_cut_anywhere_is_refused(tmp_path, suffix, compress):
    whole = compress(TEXT)
    path = tmp_path / f"a.csv{suffix}"

    for length in range(5, len(whole), 501):
        path.write_bytes(whole[:length])

        with pytest.raises(DataError, match=r"^a\.csv\.\w+: the compressed file is cut short after [\d,]+ bytes"):
            unpacked(path)


@both
def test_a_damaged_compressed_file_is_refused(tmp_path, suffix, compress):
    content = bytearray(compress(TEXT))
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"the compressed data is damaged|cut short"):
        unpacked(path)


@both
def test_a_suffix_that_lies_is_refused(tmp_path, suffix, compress):
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(TEXT)

    with pytest.raises(DataError, match=f"not a .{suffix[1:]} file"):
        unpacked(path)


@both
def test_unpacking_stops_at_the_size_limit(tmp_path, suffix, compress, monkeypatch):
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(compress(bytes(50_000_000)))
    monkeypatch.setattr(compression, "LARGEST_PLAIN_BYTES", 1_000_000)

    with pytest.raises(DataError, match="unpacks to more than 1,000,000 bytes"):
        unpacked(path)


@both
def test_no_temporary_file_is_left(tmp_path, suffix, compress, monkeypatch):
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(compress(TEXT))
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    with unwrapped(path) as plain:
        assert plain.is_relative_to(folder)

    assert list(folder.iterdir()) == []


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python itself reads Zstandard")
def test_zstandard_without_its_package_names_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "a.csv.zst"
    path.write_bytes(zstandard_compressed(TEXT))
    monkeypatch.setitem(sys.modules, "zstandard", None)

    with pytest.raises(DataError, match=r'pip install "sasrec\[zstd\]"'):
        unpacked(path)


@pytest.mark.parametrize("content", [gzip.compress(TEXT), b"\xef\xbb\xbf" + TEXT], ids=["gzip", "mark"])
@pytest.mark.parametrize("full", ["nowhere", "/dev/full"])
def test_no_room_for_what_is_unpacked_is_one_clear_error(tmp_path, monkeypatch, content, full):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    if full == "nowhere":
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / full))
    elif not os.path.exists(full):
        pytest.skip("no device here that is full")
    else:
        opened = Path.open
        monkeypatch.setattr(Path, "open", lambda self, mode: opened(Path(full) if mode == "wb" else self, mode))

    with pytest.raises(DataError, match=r"a\.csv: cannot be unpacked into .*; make room there"), unwrapped(path):
        pass
