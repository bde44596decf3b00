"""What is saved of a model: a folder whose every byte is checked by `sasrec.retrieval.loading`. No pickle.

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
from dataclasses import dataclass
from functools import partial
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import safetensors.numpy
from safetensors import SafetensorError

from sasrec import files
from sasrec.data.sequences import Sequences
from sasrec.data.vocab import Vocabulary
from sasrec.errors import BundleError, OutputError
from sasrec.files import sha256, write_folder

FORMAT = "sasrec-model"
VERSION = 1
EXPORTED = "onnx"
"""The kind of model that is an ONNX model in the place of tensors; it is read without torch."""
FILES = ("config.json", "record.json", "users.parquet", "items.parquet", "histories.safetensors")
"""Those of every model, beside its arrays."""
# Bytes at most, as what is read from JSON takes several times as many.
_LARGEST = {"manifest.json": 2**20, "config.json": 2**27, "record.json": 2**27}


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


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """What a manifest says of a file."""

    sha256: str
    size: int


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """The files that a model consists of, and what kind of model it is."""

    format: str
    version: int
    kind: str
    files: dict[str, Entry]


def check_named(path: Path) -> None:
    """Refuse a folder by no name of its own ('.', '..', '/'), which nothing can take the place of; OutputError."""
    if path.name in ("", ".."):
        raise OutputError(f"{path}: is a folder that nothing takes the place of; add a name to it, as {path / 'NAME'}")


def check_free(path: Path, *, replace: bool) -> None:
    """Refuse a path that a model cannot be saved to, before any work is done for it.

    Raises:
        OutputError: As `check_named` and `files.check_free`; or what is to be replaced is no model, or not only one.
    """
    check_named(path)
    # First, so that nobody is told to replace what is not replaced.
    if (os.path.isdir(path) or os.path.isfile(path)) and not os.path.islink(path) and not _is_model(path):
        raise OutputError(
            f"{path}: is not a sasrec model, or holds other files too, so it is not replaced; choose another name"
        )
    files.check_free(path, replace=replace, folder=True)


def save(bundle: Bundle, path: Path, *, replace: bool = False) -> None:
    """Write the bundle as a folder, whole or not at all.

    Args:
        replace: Take the place of a model that is there already; anything else is never replaced.

    Raises:
        OutputError: The path is taken, or cannot be written; or what JSON would hold could not be read back.
    """
    check_free(path, replace=replace)
    contents = _encode(bundle, path)
    for name, most in _LARGEST.items():
        if len(contents.get(name, b"")) > most:
            raise OutputError(f"{path}: {name} would be larger than the {most:,} bytes that are read; give it less")
    entries = {name: Entry(sha256(data), len(data)) for name, data in contents.items()}
    weights = weights_file(bundle.kind)

    def write_weights(draft: Path) -> None:
        # From the arrays to the disk, never as a second copy in memory, and read back for the checksum.
        try:
            _write_tensors(bundle, draft)
        except SafetensorError as error:
            raise OutputError(f"{path}: cannot be written: {error}") from None
        with open(draft, "rb") as file:
            entries[weights] = entry_of(file)

    def write_manifest(draft: Path) -> None:
        listed = Manifest(FORMAT, VERSION, bundle.kind, entries)
        draft.write_bytes(sealed(msgspec.to_builtins(listed)))

    writers = {name: partial(Path.write_bytes, data=data) for name, data in contents.items()}
    write_folder(path, {**writers, weights: write_weights, "manifest.json": write_manifest}, replace=replace)


def weights_file(kind: str) -> str:
    """The file with the arrays of a kind of model."""
    return "model.onnx" if kind == EXPORTED else "weights.safetensors"


def _write_tensors(bundle: Bundle, draft: Path) -> None:
    if bundle.kind == EXPORTED:
        draft.write_bytes(bundle.tensors["graph"])
        return
    import safetensors.torch

    tensors: dict[str, Any] = {}
    memory: set[int] = set()
    for name, tensor in bundle.tensors.items():
        whole = tensor.contiguous()
        # Parts of a model may share memory, as a network and content kNN do their features; files may not.
        place = whole.untyped_storage().data_ptr()
        tensors[name] = whole.clone() if place in memory else whole
        memory.add(place)
    safetensors.torch.save_file(tensors, draft)


def entry_of(file: BufferedReader) -> Entry:
    """What a manifest says of an opened file, found without holding it."""
    return Entry(hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size)


def _is_model(path: Path) -> bool:
    """True for a folder that holds a model, of whatever version, and nothing besides."""
    try:
        plain = json.loads(read(path, "manifest.json"))["manifest"]
        return plain["format"] == FORMAT and {*os.listdir(path)} <= {"manifest.json", *plain["files"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def sealed(manifest: dict[str, Any]) -> bytes:
    """Canonical JSON of the manifest under its own checksum, so that a flipped bit in it is found too."""
    content = json.dumps(manifest, sort_keys=True, indent=1)
    return f'{{"checksum": "{sha256(content.encode())}",\n"manifest": {content}}}\n'.encode()


def read(path: Path, name: str, *, size: int | None = None) -> bytes:
    """The bytes of one of the files of a model, looked at before they take memory.

    Args:
        size: How many there should be; None takes what is there.

    Raises:
        BundleError: The file is missing, not regular, of another size or larger than its kind can be.
    """
    file = regular(path, name)
    try:
        with open(file, "rb") as opened:
            found = os.fstat(opened.fileno()).st_size
            if found > _LARGEST.get(name, found):
                raise BundleError(f"{file}: is damaged, as {found:,} bytes are more than it ever has; save it again")
            if size not in (None, found):
                raise BundleError(f"{file}: is damaged ({found:,} bytes do not match the manifest); save it again")
            return opened.read(found)
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", f"there is no memory for {size or 0:,} bytes")
        raise BundleError(f"{file}: cannot be read: {reason}") from None


def regular(path: Path, name: str) -> Path:
    """The path of a regular file of the folder; BundleError for a link, which could lead anywhere, or where none is."""
    file = path / name
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise BundleError(f"{file}: is not a regular file")
    except FileNotFoundError:
        raise BundleError(f"{path}: {name} is missing; save the model again") from None
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from None
    return file


def _encode(bundle: Bundle, path: Path) -> dict[str, bytes]:
    """All files but the weights."""
    histories = {"items": bundle.histories.items, "offsets": bundle.histories.offsets}
    if bundle.histories.times is not None:
        histories["times"] = bundle.histories.times
    return {
        "config.json": _json(bundle.config, path / "config.json"),
        "record.json": _json(bundle.record, path / "record.json"),
        "users.parquet": _ids_to_parquet(bundle.users),
        "items.parquet": _ids_to_parquet(bundle.items),
        "histories.safetensors": safetensors.numpy.save(histories),
    }


def _json(plain: dict[str, Any], file: Path) -> bytes:
    try:
        data = json.dumps(plain, sort_keys=True, indent=1).encode()
        msgspec.json.decode(data)  # NaN, half a surrogate and too deep a list can be written, but never read
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise OutputError(f"{file}: would hold what cannot be read back: {error}; change it in the model") from None
    return data


def _ids_to_parquet(ids: Vocabulary) -> bytes:
    buffer = BytesIO()
    pl.DataFrame({"id": ids.ids}).write_parquet(buffer, compression="zstd", statistics=False)
    return buffer.getvalue()
