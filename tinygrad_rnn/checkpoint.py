"""Saving and loading: arrays by name in one file, .safetensors or .npz, whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from math import prod
from typing import Any, BinaryIO

import numpy as np

from .states import fitted
from .tensor import Tensor, refuse_masked

METADATA = "__metadata__"  # no array may have this name

# what safetensors calls the types that numpy has, too
_DTYPES = {"BOOL": np.dtype(np.bool_), "F16": np.dtype("f2"), "F32": np.dtype("f4"), "F64": np.dtype("f8")}
_DTYPES |= {f"{kind}{8 * size}": np.dtype(f"{kind.lower()}{size}") for kind in "UI" for size in (1, 2, 4, 8)}
_KNOWN = set(_DTYPES.values())

Metadata = dict[str, str]


class CheckpointError(ValueError):
    """A file that is no checkpoint, is damaged, or does not fit what it is loaded into; the message names the file and why."""


# ---- what is saved


def _parts(thing: Any, prefix: str = "") -> Iterator[tuple[str, dict[str, np.ndarray], Callable[[dict], Any]]]:
    """(prefix of the names, copies of arrays by name, what writes such arrays into it) of everything in `thing`."""
    if hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
        yield prefix and f"{prefix}.", thing.state_dict(), thing.load_state_dict
    elif isinstance(thing, Mapping):
        for key, value in thing.items():
            if not isinstance(key, str):
                raise TypeError(f"names of a checkpoint are strings, got {key!r}")
            yield from _parts(value, f"{prefix}.{key}" if prefix else key)
    elif prefix:
        refuse_masked(prefix, thing)
        array = thing.value if isinstance(thing, Tensor) else np.asarray(thing)

        def write(state: dict[str, np.ndarray]) -> None:
            if not isinstance(thing, (Tensor, np.ndarray)):
                raise TypeError(f"{prefix} is a {type(thing).__name__}, which cannot be written into: give an array")
            np.copyto(array, state[""])

        yield prefix, {"": array.copy()}, write
    else:
        raise TypeError(
            "expected a module, an optimizer, a schedule, a generator, or a mapping of names to those and to arrays, got "
            f"{type(thing).__name__}"
        )


def _named(parts: Any) -> dict[str, np.ndarray]:
    named: dict[str, np.ndarray] = {}
    for prefix, state, _ in parts:
        for name, array in state.items():
            name = prefix + name
            if name in named or name == METADATA or not name or "\0" in name:
                raise ValueError(f"{name!r} names two arrays of a checkpoint, or is not a name")
            if array.dtype.newbyteorder("=") not in _KNOWN:
                raise TypeError(f"{name} is {array.dtype}; a checkpoint holds booleans, integers and floats of up to 64 bits")
            named[name] = array
    return named


def save(path: str | os.PathLike[str], state: Any, metadata: Mapping[str, str] | None = None) -> None:
    """Write a state to a file that then holds all of it, or, whatever happens meanwhile, what it held before.

    path       ends in .safetensors (needs the `safetensors` package) or .npz; a link stays one, what it points to is written
    state      a module, an optimizer, a schedule, a generator, whatever else has a `state_dict()` of arrays; or a mapping of
               names to those, to arrays and to tensors: {"model": net, "optimizer": adam} is saved under names like
               "model.weight_ih_l0" and "optimizer.0.exp_avg". A module alone keeps its own names, which are PyTorch's
    metadata   strings by name, for `load_metadata`

    An existing file keeps its permissions. A process killed meanwhile may leave a file .saving-* in the folder."""
    named = {name: np.asarray(x, x.dtype.newbyteorder("="), order="C") for name, x in _named(_parts(state)).items()}
    write, strings = _FORMATS[_suffix(path)][0], _strings(dict(metadata or {}))
    _replace(path, lambda f: write(f, named, strings))


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file by name. Raises CheckpointError unless the whole file is as `save`, safetensors or np.savez writes
    it; nothing in it is ever run, and no more memory is taken than some times its size."""
    return _read(path)[0]


def load_metadata(path: str | os.PathLike[str]) -> Metadata:
    """The strings that were saved with a file; raises as `load` does."""
    return _read(path)[1]


def load_into(path: str | os.PathLike[str], state: Any) -> None:
    """Write a file into what has the structure that was saved, in place: a module, an optimizer, a schedule, a generator, or a
    mapping of names to those, to arrays and to tensors.

    Raises CheckpointError unless the file has exactly their names, shapes and dtypes; then nothing is written at all."""
    parts, given = list(_parts(state)), load(path)
    written = []
    try:
        fitted(os.fspath(path), _named(parts), given)
        for prefix, own, write in parts:
            write({name: given[prefix + name] for name in own})
            written.append((own, write))
    except (KeyError, ValueError, TypeError) as error:
        for own, write in written:
            write(own)
        reason = str(error.args[0])
        raise CheckpointError(reason if reason.startswith(os.fspath(path)) else f"{os.fspath(path)}: {reason}") from error


# ---- files


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = os.path.splitext(os.fspath(path))[1]
    if suffix not in _FORMATS:
        raise CheckpointError(f"{os.fspath(path)}: expected a name that ends in {' or '.join(_FORMATS)}")
    return suffix


def _replace(path: str | os.PathLike[str], write: Callable[[BinaryIO], None]) -> None:
    """Write a file beside the one at `path` and put it in its place, so that a reader, or a crash at any time, meets one or the
    other: the data are on the disk before the name is, and the name before this returns."""
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    try:
        mode = os.stat(target).st_mode
        if not stat.S_ISREG(mode):
            raise CheckpointError(f"{os.fspath(path)} is not a file that can be replaced")
    except FileNotFoundError:
        mode = None
    temporary = os.path.join(folder, f".saving-{secrets.token_hex(8)}")
    # as the process makes files; or for nobody else, until it has the permissions of the file that it replaces
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else 0o600)
    try:
        with open(descriptor, "wb") as f:
            if mode is not None:
                os.fchmod(descriptor, stat.S_IMODE(mode))
            write(f)
            f.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], Metadata]:
    read = _FORMATS[_suffix(path)][1]
    if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened: a pipe would wait for its writer
        raise CheckpointError(f"{os.fspath(path)}: not a regular file")
    with open(path, "rb") as f:
        try:
            return read(f, os.fstat(f.fileno()).st_size)
        except ImportError:
            raise
        except Exception as error:  # what parsers raise at foreign bytes has no end
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            raise CheckpointError(f"{os.fspath(path)}: {reason}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary of pairs; raises ValueError where a name comes twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a name comes twice, among {[name for name, _ in pairs][:20]}")
    return found


def _strings(metadata: Any) -> Metadata:
    if not isinstance(metadata, dict) or not all(isinstance(x, str) for pair in metadata.items() for x in pair):
        raise ValueError("the metadata are not strings by name")
    return metadata


# ---- .safetensors: the length of a header, the header in JSON, the data


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            "a .safetensors file needs the safetensors package (pip install 'tinygrad-rnn[io]'); .npz needs numpy alone"
        ) from None
    return safetensors


def _write_safetensors(f: BinaryIO, named: dict[str, np.ndarray], metadata: Metadata) -> None:
    f.write(_safetensors().numpy.save(named, metadata or None))


def _read_safetensors(f: BinaryIO, size: int) -> tuple[dict[str, np.ndarray], Metadata]:
    """The package checks offsets, but takes the last of two arrays of one name; and it is given all data, so their size is
    checked before they are read."""
    package = _safetensors()
    start = f.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(size - 8, 100_000_000):
        raise ValueError(f"no header of safetensors: its length would be {length}, the file has {size} bytes")
    text = f.read(length)
    header = json.loads(text.decode(), object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise ValueError("the header is not a table of arrays")
    metadata = _strings(header.pop(METADATA, {}))
    declared = 0
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"{name}: expected its dtype, shape and data_offsets, got {str(entry)[:100]}")
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in _DTYPES:
            raise ValueError(f"{name} has dtype {entry['dtype']!r}; expected one of {', '.join(_DTYPES)}")
        if not isinstance(entry["shape"], list) or not all(type(d) is int and d >= 0 for d in entry["shape"]):
            raise ValueError(f"{name} has no shape: {str(entry['shape'])[:100]}")
        declared += prod(entry["shape"]) * _DTYPES[entry["dtype"]].itemsize
    if declared != size - 8 - length:
        raise ValueError(f"the header declares {declared} bytes of data, the file has {size - 8 - length}")
    arrays = {}
    for name, entry in package.deserialize(start + text + f.read()):
        dtype = _DTYPES[entry["dtype"]]
        x = np.frombuffer(entry["data"], dtype.newbyteorder("<")).reshape(entry["shape"])
        arrays[name] = x.astype(dtype)  # a copy, of its own and writeable
    return arrays, metadata


# ---- .npz: a zip archive, not compressed, of one .npy for each array


def _write_npz(f: BinaryIO, named: dict[str, np.ndarray], metadata: Metadata) -> None:
    if metadata:
        named = named | {METADATA: np.frombuffer(json.dumps(metadata).encode(), np.uint8)}
    with zipfile.ZipFile(f, "w") as archive:
        for name, x in named.items():
            # without the time of day, so that equal states make equal files
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, x, allow_pickle=False)


def _read_npz(f: BinaryIO, size: int) -> tuple[dict[str, np.ndarray], Metadata]:
    with zipfile.ZipFile(f) as archive:
        entries = _once([(entry.filename, entry) for entry in archive.infolist()])
        for name, entry in entries.items():
            if not name.endswith(".npy"):
                raise ValueError(f"{name!r} in the archive is not an array, .npy")
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise ValueError(f"{name} is compressed or encrypted; such archives are not read: use np.savez")
        declared = sum(entry.file_size for entry in entries.values())
        if declared > size:
            raise ValueError(f"the archive declares {declared} bytes of arrays, the file has {size}")
        arrays = {}
        for name, entry in entries.items():
            with archive.open(entry) as data:
                arrays[name.removesuffix(".npy")] = _read_npy(name, data)
    strings = arrays.pop(METADATA, None)
    return arrays, {} if strings is None else _strings(json.loads(strings.tobytes().decode(), object_pairs_hook=_once))


def _read_npy(name: str, data: Any) -> np.ndarray:
    version = np.lib.format.read_magic(data)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{name} is of version {version} of the format; expected 1.0 or 2.0")
    shape, fortran, dtype = readers[version](data)
    if dtype.newbyteorder("=") not in _KNOWN:
        raise ValueError(f"{name} has dtype {dtype}; expected booleans, integers or floats of up to 64 bits")
    body = data.read()
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != len(body):
        raise ValueError(f"{name} declares {dtype} {shape}, {prod(shape) * dtype.itemsize} bytes, and has {len(body)}")
    x = np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")
    return np.array(x, dtype.newbyteorder("="), order="C")


_FORMATS: dict[str, tuple[Callable[..., None], Callable[..., tuple[dict[str, np.ndarray], Metadata]]]] = {
    ".safetensors": (_write_safetensors, _read_safetensors),
    ".npz": (_write_npz, _read_npz),
}
