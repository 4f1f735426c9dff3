"""Saving and loading: arrays by name in one file, .safetensors or .npz, whole or not at all, and to the bit or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import secrets
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from io import BufferedIOBase
from math import prod
from typing import Any, BinaryIO

import numpy as np

try:
    import fcntl
except ImportError:  # not on Windows, where what a killed process leaves stays
    fcntl = None  # type: ignore[assignment]

from .states import fitted
from .tensor import Tensor, refuse_masked

METADATA = "__metadata__"  # no array may have this name
CHECKSUM = "tinygrad_rnn.sha256"  # and no string of the metadata this one

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

    path       ends in .safetensors or .npz; a link stays one, what it points to is written
    state      a module, an optimizer, a schedule, a generator, whatever else has a `state_dict()` of arrays; or a mapping of
               names to those, to arrays and to tensors: {"model": net, "optimizer": adam} is saved under names like
               "model.weight_ih_l0" and "optimizer.0.exp_avg". A module alone keeps its own names, which are PyTorch's
    metadata   strings by name, for `load_metadata`

    An existing file keeps its permissions. A process killed meanwhile may leave a file .saving-* in the folder, which a later
    save to that folder removes. Equal states and metadata make equal files."""
    named = {name: np.asarray(x, x.dtype.newbyteorder("="), order="C") for name, x in _named(_parts(state)).items()}
    write, strings = _FORMATS[_suffix(path)][0], _strings(dict(metadata or {}))
    if CHECKSUM in strings:
        raise ValueError(f"{CHECKSUM!r} in the metadata is for the checksum of the file")
    _replace(path, lambda f: write(f, named, strings))


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file by name. Raises CheckpointError unless the whole file is as `save`, safetensors or np.savez writes
    it; what `save` wrote has a checksum, which shows where a bit of it has changed. Nothing in a file is ever run, and no more
    memory is taken than some times its size."""
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
    _remove_leftovers(folder)
    temporary, descriptor, held = _temporary(folder, 0o666 if mode is None else 0o600)
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
    finally:
        os.close(held)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- temporary files: a lock on each says that its writer lives, and names say on which machine, since locks may end there


def _own() -> str:
    """What names of temporary files begin with on this machine."""
    return f".saving-{hashlib.sha256(platform.node().encode()).hexdigest()[:8]}-"


def _temporary(folder: str, mode: int) -> tuple[str, int, int]:
    """(path, descriptor, another descriptor) of a new file, whose lock the second holds until it is closed."""
    while True:
        path = os.path.join(folder, _own() + secrets.token_hex(8))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        if _lock(descriptor) is not False and os.fstat(descriptor).st_nlink:
            return path, descriptor, os.dup(descriptor)
        os.close(descriptor)  # another save took it for a leftover before it was locked
        with suppress(FileNotFoundError):
            os.unlink(path)


def _lock(descriptor: int) -> bool | None:
    """Whether a file was locked: False where somebody else has it, None where there are no locks."""
    try:
        if fcntl is None:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:  # some file systems of networks
        return None


def _remove_leftovers(folder: str) -> None:
    """Remove temporary files whose writers are gone, as far as that can be known: those that this machine made and can lock."""
    if fcntl is None:
        return
    with suppress(OSError):
        for name in [name for name in os.listdir(folder) if name.startswith(_own())]:
            with suppress(OSError):
                path = os.path.join(folder, name)
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    if stat.S_ISREG(os.fstat(descriptor).st_mode) and _lock(descriptor):
                        os.unlink(path)
                finally:
                    os.close(descriptor)


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], Metadata]:
    read = _FORMATS[_suffix(path)][1]
    if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened: a pipe would wait for its writer
        raise CheckpointError(f"{os.fspath(path)}: not a regular file")
    with open(path, "rb") as f:
        try:
            return read(f, os.fstat(f.fileno()).st_size)
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


# ---- .safetensors: the length of a header, 8 bytes; the header in JSON, filled up with spaces to a multiple of 8; the arrays
# one after the other, little-endian. The metadata hold the SHA-256 of the file, which is taken with zeros in its own place.

_NO_DIGEST = "0" * 64


def _write_safetensors(f: BinaryIO, named: dict[str, np.ndarray], metadata: Metadata) -> None:
    names = {dtype: name for name, dtype in _DTYPES.items()}
    header: dict[str, Any] = {METADATA: dict(sorted((metadata | {CHECKSUM: _NO_DIGEST}).items()))}
    bodies, end = [], 0
    for name, x in sorted(named.items(), key=lambda item: (-item[1].itemsize, item[0])):  # so that each lies aligned
        start, end = end, end + x.nbytes
        header[name] = {"dtype": names[x.dtype], "shape": list(x.shape), "data_offsets": [start, end]}
        bodies.append(_bytes_of(x.astype(x.dtype.newbyteorder("<"), copy=False)))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256(len(text).to_bytes(8, "little") + text)
    for body in bodies:
        digest.update(body)
    before, after = text.split(f'"{CHECKSUM}":"{_NO_DIGEST}"'.encode())
    f.write(len(text).to_bytes(8, "little") + before + f'"{CHECKSUM}":"{digest.hexdigest()}"'.encode() + after)
    for body in bodies:
        f.write(body)


def _bytes_of(x: np.ndarray) -> Any:
    """The memory of a contiguous array."""
    return x.reshape(-1).view(np.uint8)


def _read_safetensors(f: BufferedIOBase, size: int) -> tuple[dict[str, np.ndarray], Metadata]:
    start = f.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(size - 8, 100_000_000):
        raise ValueError(f"no header of safetensors: its length would be {length}, the file has {size} bytes")
    text = f.read(length)
    header = json.loads(text.decode(), object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise ValueError("the header is not a table of arrays")
    metadata = _strings(header.pop(METADATA, {}))
    arrays = {name: _declared(name, entry) for name, entry in header.items()}
    end = 0
    for (begin, stop), name in sorted((header[name]["data_offsets"], name) for name in header):
        if begin != end or stop - begin != arrays[name][0]:
            raise ValueError(f"{name} has {arrays[name][0]} bytes, from {end} on, and data_offsets {[begin, stop]}")
        end = stop
    if end != size - 8 - length:
        raise ValueError(f"the header declares {end} bytes of data, the file has {size - 8 - length}")
    expected = metadata.pop(CHECKSUM, None)
    if expected is not None and not re.fullmatch("[0-9a-f]{64}", expected):
        raise ValueError(f"damaged: {CHECKSUM} of its metadata is no checksum: {expected[:100]!r}")
    digest = hashlib.sha256(start + (text if expected is None else text.replace(expected.encode(), _NO_DIGEST.encode())))
    found = {}
    for _, name in sorted((header[name]["data_offsets"], name) for name in header):
        _, dtype, shape = arrays[name]
        x = np.empty(shape, dtype.newbyteorder("<"))
        body = _bytes_of(x)
        if f.readinto(body) != body.nbytes:
            raise ValueError(f"{name} ends before its {body.nbytes} bytes")
        if expected is not None:
            digest.update(body)
        if dtype == np.bool_ and body.max(initial=0) > 1:
            raise ValueError(f"{name} has other booleans than 0 and 1")
        found[name] = x.astype(dtype, copy=False)
    if expected not in (None, digest.hexdigest()):
        raise ValueError(
            f"damaged: {CHECKSUM} of its metadata does not fit, unless another program copied that to other arrays"
        )
    return {name: found[name] for name in header}, metadata


def _declared(name: str, entry: Any) -> tuple[int, np.dtype, list[int]]:
    """(bytes, dtype, shape) of an array that a header declares."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name}: expected its dtype, shape and data_offsets, got {str(entry)[:100]}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"{name} has dtype {dtype!r}; expected one of {', '.join(_DTYPES)}")
    if not isinstance(shape, list) or not all(type(d) is int and d >= 0 for d in shape):
        raise ValueError(f"{name} has no shape: {str(shape)[:100]}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(d) is int for d in offsets):
        raise ValueError(f"{name} has no data_offsets: {str(offsets)[:100]}")
    return prod(shape) * _DTYPES[dtype].itemsize, _DTYPES[dtype], shape


# ---- .npz: a zip archive, not compressed, of one .npy for each array, each with a CRC-32 that zipfile checks


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
        _check_places(f, archive)
        arrays = {}
        for name, entry in entries.items():
            with archive.open(entry) as data:
                arrays[name.removesuffix(".npy")] = _read_npy(name, data)
    strings = arrays.pop(METADATA, None)
    return arrays, {} if strings is None else _strings(json.loads(strings.tobytes().decode(), object_pairs_hook=_once))


def _check_places(f: BinaryIO, archive: zipfile.ZipFile) -> None:
    """Raise ValueError unless the entries of an archive fill it up to its directory: one that this lacks leaves a gap."""
    end, sizes_follow = 0, 0
    places = [(entry.header_offset, entry.compress_size, entry.flag_bits & 8) for entry in archive.infolist()]
    for start, size, follow in [*sorted(places), (archive.start_dir, 0, 0)]:
        if start - end not in ((12, 16, 20, 24) if sizes_follow else (0,)):  # as where a file is written that has no places
            raise ValueError(f"the bytes from {end} to {start} of the archive belong to no array")
        f.seek(start)
        header = f.read(30)  # ends with the lengths of a name and of more, which come before the data
        end = start + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little") + size
        sizes_follow = follow


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
