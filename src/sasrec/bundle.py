"""What is saved of a model: a folder whose every byte is checked when it is loaded. No pickle.

MODEL/
  manifest.json            format, kind, sha256 and size of every other file; itself under a checksum
  config.json              settings the model was built with
  record.json              how it came to be: data, training, versions
  users.parquet            raw user ids, in row order
  items.parquet            raw item ids, in row order
  histories.safetensors    what each user did, as rows of items; when, if the model looks at times
  weights.safetensors      the model's arrays; of an exported network model.onnx in its place
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import safetensors.numpy
from safetensors import SafetensorError

from sasrec import files
from sasrec.data.sequences import Sequences
from sasrec.data.vocab import Vocabulary
from sasrec.errors import BundleError, DataError, OutputError
from sasrec.files import sha256, write_folder

FORMAT = "sasrec-model"
VERSION = 1
EXPORTED = "onnx"
"""The kind of model that is an ONNX model in the place of tensors; it is read without torch."""
_FILES = ("config.json", "record.json", "users.parquet", "items.parquet", "histories.safetensors")
_LATEST = 2.0**62  # beyond any time that a log can hold
_MAPPED_BYTES = 64 * 2**20  # weights of this size or more stay in their file
_FAULTS = (
    DataError,
    KeyError,
    RecursionError,
    ValueError,
    SafetensorError,
    msgspec.MsgspecError,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,  # of a hostile Parquet file; it is no Exception
)


@dataclass(frozen=True, eq=False)
class Bundle:
    """Everything that a model is, as plain values and arrays.

    Attributes:
        kind: Which scorer the tensors belong to: "sasrec", "markov", "rules", "blend", "onnx", ...
        config: Settings that the scorer is built from.
        users: Raw user ids.
        items: Raw item ids.
        histories: One sequence for every user, as rows of `items`.
        tensors: The scorer's tensors by name; of an exported network bytes, "graph".
        record: How the model came to be.
    """

    kind: str
    config: dict[str, Any]
    users: Vocabulary
    items: Vocabulary
    histories: Sequences
    tensors: dict[str, Any]
    record: dict[str, Any]


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    sha256: str
    size: int


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """The files that a model consists of, and what kind of model it is."""

    format: str
    version: int
    kind: str
    files: dict[str, _Entry]


def check_free(path: Path, *, replace: bool) -> None:
    """Refuse a path that a model cannot be saved to, before any work is done for it.

    Raises:
        OutputError: As `files.check_free`; or `replace` is True and what is there is no model, or not only one.
    """
    files.check_free(path, replace=replace, folder=True)
    if os.path.lexists(path) and not _is_model(path):
        raise OutputError(
            f"{path}: is not a sasrec model, or holds other files too, so it is not replaced; choose another name"
        )


def save(bundle: Bundle, path: Path, *, replace: bool = False) -> None:
    """Write the bundle as a folder, whole or not at all.

    Args:
        replace: Take the place of a model that is there already; anything else is never replaced.

    Raises:
        OutputError: The path is taken, or cannot be written.
    """
    check_free(path, replace=replace)
    contents = _encode(bundle)
    entries = {name: _Entry(sha256(data), len(data)) for name, data in contents.items()}
    weights = _weights(bundle.kind)

    def write_weights(draft: Path) -> None:
        # From the arrays to the disk, never as a second copy in memory, and read back for the checksum.
        try:
            _write_tensors(bundle, draft)
        except SafetensorError as error:
            raise OutputError(f"{path}: cannot be written: {error}") from None
        with open(draft, "rb") as file:
            entries[weights] = _entry(file)

    def write_manifest(draft: Path) -> None:
        listed = Manifest(FORMAT, VERSION, bundle.kind, entries)
        draft.write_bytes(_sealed(msgspec.to_builtins(listed)))

    writers = {name: _writer(data) for name, data in contents.items()}
    write_folder(path, {**writers, weights: write_weights, "manifest.json": write_manifest}, replace=replace)


def load(path: Path) -> Bundle:
    """Read a bundle, checking every byte.

    Weights of 64 MiB or more are not copied into memory: the file is mapped, so that only what is used of it is held,
    once for all processes that load it. `save` never changes such a file, it puts another folder in its place;
    whatever else writes into it changes the loaded model.

    Raises:
        BundleError: The folder is missing, foreign, damaged or of a newer format.
    """
    listed = manifest(path)
    contents = {name: _checked(path, name, listed) for name in _FILES}
    try:
        return _decode(listed.kind, contents, _tensors(path, listed))
    except _FAULTS as error:
        raise BundleError(f"{path}: its files are whole but do not fit together: {error}") from None


def _weights(kind: str) -> str:
    """The file with the arrays of a kind of model."""
    return "model.onnx" if kind == EXPORTED else "weights.safetensors"


def _write_tensors(bundle: Bundle, draft: Path) -> None:
    if bundle.kind == EXPORTED:
        draft.write_bytes(bundle.tensors["graph"])
        return
    import safetensors.torch

    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in bundle.tensors.items()}, draft)


def _tensors(path: Path, listed: Manifest) -> dict[str, Any]:
    weights = _weights(listed.kind)
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
    return safetensors.torch.load(_checked(path, weights, listed))


def _checked(path: Path, name: str, listed: Manifest) -> bytes:
    """The bytes of a file that are those of the manifest."""
    data = read(path, name)
    _check_entry(path / name, listed.files[name], _Entry(sha256(data), len(data)))
    return data


def _mapped(path: Path, name: str, expected: _Entry) -> dict[str, Any]:
    """Weights as views of their file."""
    import safetensors.torch

    file = _regular(path, name)
    try:
        with open(file, "rb") as opened:
            _check_entry(file, expected, _entry(opened))
            tensors = safetensors.torch.load_file(file)
            # The library opens the file once more, by its name: it must still be the one that was checked.
            checked, mapped = os.fstat(opened.fileno()), os.stat(file)
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from None
    if (checked.st_dev, checked.st_ino, checked.st_mtime_ns) != (mapped.st_dev, mapped.st_ino, mapped.st_mtime_ns):
        raise BundleError(f"{file}: was changed while it was loaded; load it again")
    return tensors


def _entry(file: BufferedReader) -> _Entry:
    """What a manifest says of an opened file, found without holding it."""
    return _Entry(hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size)


def _check_entry(file: Path, expected: _Entry, found: _Entry) -> None:
    if found != expected:
        raise BundleError(f"{file}: is damaged ({found.size:,} bytes do not match the manifest); save it again")


def _is_model(path: Path) -> bool:
    """True for a folder that holds a model, of whatever version, and nothing besides."""
    try:
        plain = json.loads(read(path, "manifest.json"))["manifest"]
        return plain["format"] == FORMAT and {*os.listdir(path)} <= {"manifest.json", *plain["files"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _writer(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def _sealed(manifest: dict[str, Any]) -> bytes:
    """Canonical JSON of the manifest under its own checksum, so that a flipped bit in it is found too."""
    content = json.dumps(manifest, sort_keys=True, indent=1)
    return f'{{"checksum": "{sha256(content.encode())}",\n"manifest": {content}}}\n'.encode()


def manifest(path: Path) -> Manifest:
    """What a folder says that its model consists of; BundleError where it is missing, foreign, damaged or too new."""
    # os.path, as pathlib raises where a folder on the way must not be entered.
    if not os.path.isdir(path):
        what = "is not a folder" if os.path.exists(path) else "does not exist or cannot be entered"
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
        if data != _sealed(plain):
            raise foreign
        manifest = msgspec.convert(plain, Manifest)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise error if isinstance(error, BundleError) else foreign from None
    if set(manifest.files) != {*_FILES, _weights(manifest.kind)}:
        raise foreign
    return manifest


def read(path: Path, name: str) -> bytes:
    """The bytes of one of the files of a model; BundleError where it is missing or no regular file."""
    file = _regular(path, name)
    try:
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from None


def _regular(path: Path, name: str) -> Path:
    """A regular file of the folder; a link could lead anywhere, so it is refused."""
    file = path / name
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise BundleError(f"{file}: is not a regular file")
    except FileNotFoundError:
        raise BundleError(f"{path}: {name} is missing; save the model again") from None
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from None
    return file


def _encode(bundle: Bundle) -> dict[str, bytes]:
    """All files but the weights."""
    histories = {"items": bundle.histories.items, "offsets": bundle.histories.offsets}
    if bundle.histories.times is not None:
        histories["times"] = bundle.histories.times
    return {
        "config.json": json.dumps(bundle.config, sort_keys=True, indent=1).encode(),
        "record.json": json.dumps(bundle.record, sort_keys=True, indent=1).encode(),
        "users.parquet": _ids_to_parquet(bundle.users),
        "items.parquet": _ids_to_parquet(bundle.items),
        "histories.safetensors": safetensors.numpy.save(histories),
    }


def _decode(kind: str, contents: dict[str, bytes], tensors: dict[str, Any]) -> Bundle:
    users = _ids_from_parquet(contents["users.parquet"], "user")
    items = _ids_from_parquet(contents["items.parquet"], "item")
    arrays = safetensors.numpy.load(contents["histories.safetensors"])
    histories = Sequences(arrays["items"], arrays["offsets"], arrays.get("times"))
    _check_histories(histories, users=len(users), items=len(items))
    return Bundle(
        kind=kind,
        config=msgspec.json.decode(contents["config.json"], type=dict[str, Any]),
        users=users,
        items=items,
        histories=histories,
        tensors=tensors,
        record=msgspec.json.decode(contents["record.json"], type=dict[str, Any]),
    )


def _check_histories(histories: Sequences, *, users: int, items: int) -> None:
    """Rows and offsets index memory later on, so they are checked like any other hostile input."""
    rows, offsets = histories.items, histories.offsets
    if rows.dtype != np.int32 or offsets.dtype != np.int64 or rows.ndim != 1 or offsets.shape != (users + 1,):
        raise BundleError("histories do not fit the users")
    # Compared, not subtracted: a difference of hostile offsets could overflow to a harmless one.
    if offsets[0] != 0 or offsets[-1] != len(rows) or (offsets[1:] <= offsets[:-1]).any():
        raise BundleError("histories are empty, overlap or have gaps")
    if len(rows) and (rows.min() < 0 or rows.max() >= items):
        raise BundleError("histories name items beyond the catalogue")
    times = histories.times
    if times is not None and (times.dtype not in (np.int64, np.float64) or times.shape != rows.shape):
        raise BundleError("histories do not fit their times")
    if times is not None and not (np.abs(times, dtype=np.float64) < _LATEST).all():
        raise BundleError("histories hold times that are none")


def _ids_to_parquet(ids: Vocabulary) -> bytes:
    buffer = BytesIO()
    pl.DataFrame({"id": ids.ids}).write_parquet(buffer, compression="zstd", statistics=False)
    return buffer.getvalue()


def _ids_from_parquet(data: bytes, kind: str) -> Vocabulary:
    frame = pl.read_parquet(BytesIO(data))
    if frame.columns != ["id"]:
        raise BundleError(f"{kind}s.parquet holds {frame.columns}, expected one column 'id'")
    return Vocabulary(frame["id"], kind)
