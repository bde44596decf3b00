"""load(): from a saved model to a recommender, with every byte of its files checked."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np
import polars as pl
import safetensors.numpy
from safetensors import SafetensorError

from sasrec.bundle import (
    EXPORTED,
    FILES,
    FORMAT,
    VERSION,
    Bundle,
    Entry,
    Manifest,
    entry_of,
    read,
    regular,
    sealed,
    weights_file,
)
from sasrec.data.clock import MOST
from sasrec.data.columns import LONGEST_ID_BYTES
from sasrec.data.log import FrameKind
from sasrec.data.parquet import pages
from sasrec.data.sequences import Sequences
from sasrec.data.vocab import Vocabulary
from sasrec.errors import BundleError, ConfigError, DataError
from sasrec.files import as_path, beside, sha256
from sasrec.retrieval.exported import Exported
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.record import check_record
from sasrec.retrieval.scorers import Scorer

_ID_BYTES = LONGEST_ID_BYTES + 16  # with its length and its place in a dictionary
_MAPPED_BYTES = 64 * 2**20  # weights of this size or more stay in their file
_FAULTS = (
    DataError,
    KeyError,
    OverflowError,
    RuntimeError,  # of torch about shapes and sizes; RecursionError is one
    TypeError,
    ValueError,
    SafetensorError,
    msgspec.MsgspecError,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,  # of a hostile Parquet file; it is no Exception
)


def load(path: str | Path, *, frame: FrameKind = "polars") -> Recommender:
    """Read a model that `Recommender.save` or `sasrec train` wrote, checking every byte of it.

    Args:
        frame: Kind of frame to answer with where the question does not come in one: "polars", "pandas" or "pyarrow".
            That of the log is not kept, as its library need not be where the model is used.

    Raises:
        ConfigError: There is no such `frame`, or `path` is none.
        BundleError: The folder is missing, foreign, damaged or written by a newer sasrec.
    """
    if frame not in get_args(FrameKind):
        raise ConfigError(f"frame: expected 'polars', 'pandas' or 'pyarrow', found {frame!r}")
    content = read_bundle(as_path(path))
    try:
        return Recommender(
            _scorer(content.kind).from_parts(len(content.items), content.config, content.tensors),
            users=content.users,
            items=content.items,
            histories=content.histories,
            record=content.record,
            frame=frame,
        )
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None
    except _FAULTS as error:
        raise _unfitting(Path(path), error) from None


def _scorer(kind: str) -> type[Scorer]:
    """The scorer of a kind of model; torch is imported for those that need it."""
    if kind == Exported.kind:
        return Exported
    from sasrec.retrieval.blend import PARTS, Blend

    known = {**PARTS, Blend.kind: Blend}
    if kind not in known:
        raise BundleError(f"holds a model of kind {kind!r}; this sasrec knows {', '.join((*known, Exported.kind))}")
    return known[kind]


def read_bundle(path: Path) -> Bundle:
    """Read a bundle, checking every byte.

    Weights of 64 MiB or more are not copied into memory: the file is mapped, so that only what is used of it is held,
    once for all processes that load it. `save` never changes such a file, it puts another folder in its place;
    whatever else writes into it changes the loaded model.

    Raises:
        BundleError: The folder is missing, foreign, damaged or of a newer format.
    """
    listed = manifest(path)
    contents = {name: _checked(path, name, listed) for name in FILES}
    tensors = _tensors(path, listed)
    with _fitting(path):
        return _decode(listed, contents, tensors)


class About(NamedTuple):
    """What a saved model says of itself; for each see `Bundle`."""

    kind: str
    config: dict[str, Any]
    record: dict[str, Any]


def about(path: Path) -> About:
    """What a saved model says of itself, without reading what it has learned; errors as `read_bundle`."""
    listed = manifest(path)
    config, record = (_checked(path, name, listed) for name in ("config.json", "record.json"))
    with _fitting(path):
        return About(listed.kind, _settings(config), _record(record))


def manifest(path: Path) -> Manifest:
    """What a folder says that its model consists of; BundleError where it is missing, foreign, damaged or too new."""
    # os.path, as pathlib raises where a folder on the way must not be entered.
    if not os.path.isdir(path):
        what = "is not a folder" if os.path.exists(path) else "does not exist or cannot be entered"
        for place in [one / path.name for one in beside(path)]:
            if os.path.isdir(place):  # moved there in the first of two steps, on a system that swaps no folders
                raise BundleError(f"{path}: is missing, as replacing it was cut short; it is in {place}: move it back")
        raise BundleError(f"{path}: {what}; a sasrec model is a folder written by `sasrec train` or `save`")
    if not os.path.lexists(path / "manifest.json"):
        raise BundleError(f"{path}: is not a sasrec model: it holds no manifest.json that can be read")
    data = read(path, "manifest.json")
    foreign = BundleError(f"{path / 'manifest.json'}: is damaged or not of a sasrec model")
    try:
        plain = json.loads(data)["manifest"]
        if not isinstance(plain, dict) or plain.get("format") != FORMAT:
            raise foreign
        if isinstance(plain.get("version"), int) and plain["version"] > VERSION:
            raise BundleError(
                f"{path}: has format version {plain['version']}, this sasrec reads up to {VERSION}; update sasrec"
            )
        if data != sealed(plain):
            raise foreign
        manifest = msgspec.convert(plain, Manifest)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise error if isinstance(error, BundleError) else foreign from None
    if set(manifest.files) != {*FILES, weights_file(manifest.kind)}:
        raise foreign
    return manifest


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """What fails inside the block is what files hold that are those of the manifest."""
    try:
        yield
    except _FAULTS as error:
        raise _unfitting(path, error) from None


def _unfitting(path: Path, error: BaseException) -> BundleError:
    return BundleError(f"{path}: its files are whole but do not fit together: {error}")


def _tensors(path: Path, listed: Manifest) -> dict[str, Any]:
    weights = weights_file(listed.kind)
    if listed.kind == EXPORTED:
        return {"graph": _checked(path, weights, listed)}
    try:
        import safetensors.torch
    except ModuleNotFoundError as error:
        raise BundleError(
            f"{path}: a model of kind {listed.kind!r} needs the package {error.name}, which is not installed; without "
            "torch there are exported networks alone (`sasrec export`)"
        ) from None

    if listed.files[weights].size >= _MAPPED_BYTES:
        return _mapped(path, weights, listed.files[weights])
    data = _checked(path, weights, listed)
    with _fitting(path):
        return safetensors.torch.load(data)


def _checked(path: Path, name: str, listed: Manifest) -> bytes:
    """The bytes of a file that are those of the manifest."""
    data = read(path, name, size=listed.files[name].size)
    _check_entry(path / name, listed.files[name], Entry(sha256(data), len(data)))
    return data


def _mapped(path: Path, name: str, expected: Entry) -> dict[str, Any]:
    """Weights as views of their file."""
    import safetensors.torch

    file = regular(path, name)
    try:
        with open(file, "rb") as opened:
            _check_entry(file, expected, entry_of(opened))
            with _fitting(path):
                tensors = safetensors.torch.load_file(file)
            # The library opens the file once more, by its name: it must still be the one that was checked.
            checked, mapped = os.fstat(opened.fileno()), os.stat(file)
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from None
    if (checked.st_dev, checked.st_ino, checked.st_mtime_ns) != (mapped.st_dev, mapped.st_ino, mapped.st_mtime_ns):
        raise BundleError(f"{file}: was changed while it was loaded; load it again")
    return tensors


def _check_entry(file: Path, expected: Entry, found: Entry) -> None:
    if found != expected:
        raise BundleError(f"{file}: is damaged ({found.size:,} bytes do not match the manifest); save it again")


def _decode(listed: Manifest, contents: dict[str, bytes], tensors: dict[str, Any]) -> Bundle:
    arrays = safetensors.numpy.load(contents["histories.safetensors"])
    users = _ids_from_parquet(contents["users.parquet"], "user", most=arrays["offsets"].size)
    # How many items the arrays are of is for the scorer to say; all have a number of 4 bytes of each at least.
    weights = listed.files[weights_file(listed.kind)]
    items = _ids_from_parquet(contents["items.parquet"], "item", most=weights.size // 4)
    histories = Sequences(arrays["items"], arrays["offsets"], arrays.get("times"))
    _check_histories(histories, users=len(users), items=len(items))
    return Bundle(
        kind=listed.kind,
        config=_settings(contents["config.json"]),
        users=users,
        items=items,
        histories=histories,
        tensors=tensors,
        record=_record(contents["record.json"]),
    )


def _settings(data: bytes) -> dict[str, Any]:
    return msgspec.json.decode(data, type=dict[str, Any])


def _record(data: bytes) -> dict[str, Any]:
    record = msgspec.json.decode(data, type=dict[str, Any])
    check_record(record)
    return record


def _check_histories(histories: Sequences, *, users: int, items: int) -> None:
    """Rows and offsets index memory later on, so they are checked like any other hostile input."""
    rows, offsets = histories.items, histories.offsets
    if rows.dtype != np.int32 or offsets.dtype != np.int64 or rows.ndim != 1 or offsets.shape != (users + 1,):
        raise BundleError("histories do not fit the users")
    if not histories.fit(items) or (histories.lengths < 1).any():
        raise BundleError("histories are empty, overlap, have gaps or name items beyond the catalogue")
    times = histories.times
    if times is not None and (times.dtype not in (np.int64, np.float64) or times.shape != rows.shape):
        raise BundleError("histories do not fit their times")
    if times is not None and not (np.abs(times, dtype=np.float64) < MOST).all():
        raise BundleError("histories hold times that are none")


def _ids_from_parquet(data: bytes, kind: str, *, most: int) -> Vocabulary:
    """The ids of a file, which is not unpacked where they are more, or take more, than those of `most` can."""
    values = taken = 0
    for page in pages(data):
        values, taken = values + page.values, taken + page.bytes
        if values > most or taken > 2**20 + most * _ID_BYTES:
            raise BundleError(
                f"{kind}s.parquet unfolds to more than the ids of {most:,} {kind}s, the most that fit here"
            )
    frame = pl.read_parquet(BytesIO(data))
    if frame.columns != ["id"]:
        raise BundleError(f"{kind}s.parquet holds {frame.columns}, expected one column 'id'")
    ids = frame["id"]
    if ids.dtype == pl.String and (ids.str.len_bytes() > LONGEST_ID_BYTES).any():
        raise BundleError(f"{kind}s.parquet holds an id of more than {LONGEST_ID_BYTES:,} bytes, which no log may have")
    return Vocabulary(ids, kind)
