"""Saving and loading: what comes back, what a crash leaves, what broken files do, and training that goes on."""

import json
import os
import pathlib
import pickle
import stat
import struct
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from io import BytesIO

import numpy as np
import pytest

import tinygrad_rnn as tr

pytest.importorskip("safetensors")
FORMATS = (".safetensors", ".npz")
every_format = pytest.mark.parametrize("suffix", FORMATS)


def net(seed=0):
    return tr.nn.RNN(3, 4, 2, seed=seed)


def everything(seed=0):
    """A model that has been trained for some steps, and all that its training needs."""
    model = net(seed)
    optimizer = tr.optim.RMSprop(model.parameters(), momentum=0.5, centered=True)
    schedule = tr.optim.CosineAnnealingLR(optimizer, 10)
    generator = tr.Generator(2**64 - 1 - seed)
    rng = np.random.default_rng(seed)
    for _ in range(3):
        for p in model.parameters():
            p.grad = rng.standard_normal(p.shape).astype(p.dtype)
        optimizer.step()
        schedule.step()
        tr.dropout(np.ones(5), generator=generator)
    return {"model": model, "optimizer": optimizer, "schedule": schedule, "generator": generator}


def arrays_of(thing):
    return {f"{k}.{n}": x for k, part in thing.items() for n, x in part.state_dict().items()}


def assert_equal(ours, theirs):
    assert set(ours) == set(theirs)
    for name, x in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (x.dtype, x.shape), name
        np.testing.assert_array_equal(ours[name], x, err_msg=name)


@every_format
def test_arrays_come_back_to_the_bit(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    bits = np.random.default_rng(0).integers(0, 2**63, 7)
    state = {
        **{
            f"{t}": np.arange(6).astype(t).reshape(2, 3)
            for t in ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
        },
        "odd floats": bits.view(np.float64),  # NaNs with payloads, subnormals
        "special": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
        "uint64": np.array([2**64 - 1, 0], np.uint64),
        "scalar": np.array(3.5, np.float32),
        "empty": np.zeros((2, 0, 3)),
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "strided": np.arange(10)[::-3],
        "other order": np.arange(3, dtype=">f8"),
        "tensor": tr.Tensor(np.ones(2)),
        "number": 7,
        "name/with.all kinds \N{SNOWMAN} of.npy": np.ones(1),
    }
    tr.save(path, state, {"epoch": "3", "\N{SNOWMAN}": ""})
    loaded = tr.load(path)
    assert set(loaded) == set(state)
    for name, x in state.items():
        x = x.value if isinstance(x, tr.Tensor) else np.asarray(x)
        y = loaded[name]
        assert y.dtype == x.dtype.newbyteorder("=") and y.shape == x.shape and y.flags.c_contiguous and y.flags.writeable
        assert y.tobytes() == np.ascontiguousarray(x, y.dtype).tobytes(), name
    assert tr.load_metadata(path) == {"epoch": "3", "\N{SNOWMAN}": ""}
    before = path.read_bytes()
    tr.save(str(path), {**loaded}, {"\N{SNOWMAN}": "", "epoch": "3"})
    assert path.read_bytes() == before or suffix == ".npz"  # whose metadata stay in order
    tr.save(str(path), {**loaded}, {"epoch": "3", "\N{SNOWMAN}": ""})
    assert path.read_bytes() == before
    tr.save(path, {})
    assert tr.load(path) == {} == tr.load_metadata(path)


@every_format
def test_a_whole_training_comes_back(suffix, tmp_path):
    path = tmp_path / f"run{suffix}"
    first, second = everything(0), everything(1)
    tr.save(path, first)
    loaded = tr.load(path)
    assert_equal(loaded, arrays_of(first))
    assert {"model.weight_ih_l0", "optimizer.0.grad_avg", "optimizer.lr", "schedule.T_max", "generator.state"} < set(loaded)
    memory = [p.value for p in second["model"].parameters()] + [second["generator"].state]
    tr.load_into(path, second)
    assert_equal(arrays_of(second), arrays_of(first))
    assert all(
        a is b
        for a, b in zip(memory, [*(p.value for p in second["model"].parameters()), second["generator"].state], strict=True)
    )
    nested = {"all": first, "step": np.array(5)}
    tr.save(path, nested)
    target = {"all": everything(2), "step": np.array(0)}
    tr.load_into(path, target)
    assert target["step"] == 5
    assert_equal(arrays_of(target["all"]), arrays_of(first))


def test_numpy_and_safetensors_read_each_other(tmp_path):
    from safetensors.numpy import load_file, save_file

    state = net().state_dict()
    tr.save(tmp_path / "a.npz", net())
    with np.load(tmp_path / "a.npz") as archive:
        assert_equal(dict(archive), state)
    tr.save(tmp_path / "a.safetensors", net())
    assert_equal(load_file(tmp_path / "a.safetensors"), state)
    fortran = state | {"f": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    np.savez(tmp_path / "b.npz", **fortran)
    assert_equal(tr.load(tmp_path / "b.npz"), fortran)
    save_file(state, tmp_path / "b.safetensors", {"format": "np"})
    assert_equal(tr.load(tmp_path / "b.safetensors"), state)
    assert tr.load_metadata(tmp_path / "b.safetensors") == {"format": "np"}


def test_torch_reads_ours_and_we_read_torchs(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype("float32")
    ours, theirs = net(0), torch.nn.RNN(3, 4, 2)
    tr.save(tmp_path / "ours.safetensors", ours)
    theirs.load_state_dict(load_file(tmp_path / "ours.safetensors"), strict=True)
    np.testing.assert_allclose(theirs(torch.tensor(x))[0].detach().numpy(), ours(x)[0].value, atol=1e-6)
    theirs = torch.nn.RNN(3, 4, 2)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    tr.load_into(tmp_path / "theirs.safetensors", ours)
    np.testing.assert_allclose(theirs(torch.tensor(x))[0].detach().numpy(), ours(x)[0].value, atol=1e-6)


# ---- writing


@every_format
def test_a_failed_save_leaves_what_was_there(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"a{suffix}"
    tr.save(path, {"x": np.zeros(3)})
    before = path.read_bytes()
    for name in ("replace", "fsync", "fchmod"):
        with monkeypatch.context() as patch:

            def fail(*arguments, name=name):
                raise OSError(28, f"no space left for {name}")

            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="no space left"):
                tr.save(path, {"x": np.ones(3)})
        assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]
    with pytest.raises(TypeError, match="x is object"):
        tr.save(path, {"x": np.array([None])})
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


@every_format
def test_permissions_and_links(suffix, tmp_path):
    path, link = tmp_path / f"a{suffix}", tmp_path / f"link{suffix}"
    before = os.umask(0o027)
    try:
        tr.save(path, {"x": np.zeros(3)})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    link.symlink_to(path.name)
    (tmp_path / "folder").mkdir()
    far = tmp_path / "folder" / f"far{suffix}"
    far.symlink_to(f"../link{suffix}")
    tr.save(far, {"x": np.ones(3)})
    assert far.is_symlink() and link.is_symlink() and not path.is_symlink()
    assert tr.load(path)["x"].sum() == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    dangling = tmp_path / f"dangling{suffix}"
    dangling.symlink_to(f"folder/made{suffix}")
    tr.save(dangling, {"x": np.ones(2)})
    assert tr.load(tmp_path / "folder" / f"made{suffix}")["x"].sum() == 2
    loop = tmp_path / f"loop{suffix}"
    loop.symlink_to(loop.name)
    for wrong in (loop, tmp_path / "nowhere" / f"a{suffix}"):
        with pytest.raises(OSError):
            tr.save(wrong, {"x": np.ones(2)})
    (tmp_path / f"d{suffix}").mkdir()
    os.mkfifo(tmp_path / f"pipe{suffix}")
    for name in ("d", "pipe"):
        with pytest.raises(tr.CheckpointError, match="not a file that can be replaced"):
            tr.save(tmp_path / f"{name}{suffix}", {"x": np.ones(2)})
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".saving")]


# A child that saves version after version, and says on its standard output when each is whole. `moment` names a step of a save, at
# which it kills itself in the version `last`; with "never" it goes on until it is killed.
SAVES = """
import os, signal, sys
import numpy as np
import tinygrad_rnn as tr

path, first, last, moment = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
name, _, when = moment.partition(" ")


class Writing:  # a file that is killed over when half of it is written
    def __init__(self, f):
        self.f, self.parts = f, 0

    def write(self, data):
        self.parts += 1
        if version == last and self.parts == 2:
            self.f.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.f.write(data)

    def __getattr__(self, name):
        return getattr(self.f, name)


def killing(f):
    def call(*arguments):
        if version == last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = f(*arguments)
        if version == last and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call


if name == "write":
    formats = tr.checkpoint._FORMATS
    for suffix, (write, read) in list(formats.items()):
        formats[suffix] = (lambda f, *more, write=write: write(Writing(f), *more)), read
elif name != "never":
    setattr(os, name, killing(getattr(os, name)))
version = first
while True:
    tr.save(path, {"a": np.full(4000, version), "b": {"c": np.full((50, 30), float(version))}})
    os.write(1, b"%d\\n" % version)
    version += 1
"""


def saving(path, first=1, last=-1, moment="never"):
    arguments = [sys.executable, "-c", SAVES, str(path), str(first), str(last), moment]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def whole_version(path):
    """The version that a file holds, all of it."""
    found = tr.load(path)
    version = int(found["a"][0])
    assert np.all(found["a"] == version) and np.all(found["b.c"] == version)
    assert found["a"].shape == (4000,) and found["b.c"].shape == (50, 30)
    return version


def leftovers(folder):
    return [name for name in os.listdir(folder) if name.startswith(".saving-")]


@every_format
@pytest.mark.parametrize(
    ("moment", "kept", "left"),
    [
        ("write", 3, 1),
        ("fsync before", 3, 1),
        ("fsync after", 3, 1),
        ("replace before", 3, 1),
        ("replace after", 4, 0),
    ],
)
def test_a_process_killed_at_each_step_of_a_save_leaves_a_whole_version(suffix, moment, kept, left, tmp_path):
    path = tmp_path / f"run{suffix}"
    child = saving(path, 1, 4, moment)
    said, errors = child.communicate(timeout=300)
    assert child.returncode == -9, errors
    assert said.split() == [b"1", b"2", b"3"]
    assert whole_version(path) == kept
    assert len(leftovers(tmp_path)) == left
    tr.save(path, {"x": np.ones(1)})
    assert not leftovers(tmp_path)


@every_format
def test_a_process_killed_at_any_moment_leaves_a_whole_version(suffix, tmp_path):
    """Killed after it said so many versions, which is wherever it is by then; what it said is never lost."""
    path = tmp_path / f"run{suffix}"
    kept = 0
    for more in (1, 2, 5, 9):
        child = saving(path, kept + 1)
        said = [int(child.stdout.readline()) for _ in range(more)]
        child.kill()
        said += [int(line) for line in child.stdout.read().split()]
        child.wait()
        child.stderr.close()
        version = whole_version(path)
        assert version in (said[-1], said[-1] + 1)  # it may have been killed before it could say
        kept = version
    tr.save(path, {"x": np.ones(1)})
    assert not leftovers(tmp_path)


@every_format
def test_leftovers_of_others_stay(suffix, tmp_path, monkeypatch):
    """The temporary files of saves that run, in another process or thread, of another machine, and what is no file."""
    path = tmp_path / f"run{suffix}"
    tr.save(path, {"x": np.zeros(3)})
    own = tr.checkpoint._own()
    stays = {".saving-0123456789abcdef", ".saving-ffffffff-0123456789abcdef"}  # without a machine, and of another one
    for name in stays:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / f"{own}folder").mkdir()
    (tmp_path / f"{own}link").symlink_to(path.name)
    os.mkfifo(tmp_path / f"{own}pipe")
    stays |= {f"{own}{kind}" for kind in ("folder", "link", "pipe")}
    (tmp_path / f"{own}dead").write_bytes(b"half")
    temporary, descriptor, held = tr.checkpoint._temporary(str(tmp_path), 0o600)  # of this process
    stays.add(os.path.basename(temporary))
    go = subprocess.Popen(
        [sys.executable, "-c", "import os, sys, tinygrad_rnn.checkpoint as c\nprint(c._temporary(sys.argv[1], 0o600)[0], flush=True)\nsys.stdin.read()", str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    theirs = os.path.basename(go.stdout.readline().decode().strip())
    tr.save(path, {"x": np.ones(3)})
    assert set(leftovers(tmp_path)) == stays | {theirs}
    go.communicate()  # it ends without removing its file
    os.close(held)
    os.close(descriptor)
    tr.save(path, {"x": np.ones(3)})
    assert set(leftovers(tmp_path)) == stays - {os.path.basename(temporary)}


@every_format
def test_saves_in_many_threads_leave_each_other_alone(suffix, tmp_path):
    """All to one folder, some to one file."""
    failed = []

    def save(n):
        try:
            for i in range(30):
                tr.save(tmp_path / f"{n % 4}{suffix}", {"x": np.full(2000, float(i))})
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=save, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert sorted(os.listdir(tmp_path)) == [f"{n}{suffix}" for n in range(4)]
    assert all(np.all(tr.load(tmp_path / name)["x"] == 29) for name in os.listdir(tmp_path))


def test_a_temporary_file_that_was_taken_for_a_leftover_is_made_anew(tmp_path, monkeypatch):
    """By a save that found it between its opening and its lock."""
    lock, taken = tr.checkpoint._lock, []

    def slow(descriptor):
        if not taken:
            taken.extend(leftovers(tmp_path))
            os.unlink(tmp_path / taken[0])
        return lock(descriptor)

    monkeypatch.setattr(tr.checkpoint, "_lock", slow)
    tr.save(tmp_path / "a.npz", {"x": np.ones(3)})
    assert taken and os.listdir(tmp_path) == ["a.npz"]


def test_file_systems_without_locks(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(*arguments):
        raise OSError(95, "Operation not supported")

    (tmp_path / f"{tr.checkpoint._own()}dead").write_bytes(b"half")
    monkeypatch.setattr(fcntl, "flock", flock)
    for there in (fcntl, None):
        monkeypatch.setattr(tr.checkpoint, "fcntl", there)
        tr.save(tmp_path / "a.npz", {"x": np.ones(3)})
        assert len(os.listdir(tmp_path)) == 2  # nobody knows whether its writer lives


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda p: tr.save(p / "a.pt", {}), tr.CheckpointError, "a.pt: expected a name that ends in .safetensors or .npz"),
        (lambda p: tr.load(p / "a"), tr.CheckpointError, "expected a name that ends in"),
        (lambda p: tr.save(p / "a.npz", np.ones(3)), TypeError, "expected a module, an optimizer.*got ndarray"),
        (lambda p: tr.save(p / "a.npz", {1: np.ones(3)}), TypeError, "names of a checkpoint are strings, got 1"),
        (lambda p: tr.save(p / "a.npz", {"x": np.ones(3, complex)}), TypeError, "x is complex128"),
        (lambda p: tr.save(p / "a.npz", {"x": "text"}), TypeError, "x is <U4"),
        (lambda p: tr.save(p / "a.npz", {"x": np.ones(3, np.longdouble)}), TypeError, "x is"),
        (lambda p: tr.save(p / "a.npz", {"x": np.random.default_rng(0)}), TypeError, "x is object"),
        (lambda p: tr.save(p / "a.npz", {"a": {"b": 1}, "a.b": 2}), ValueError, "'a.b' names two arrays"),
        (lambda p: tr.save(p / "a.npz", {"__metadata__": 1}), ValueError, "__metadata__"),
        (lambda p: tr.save(p / "a.npz", {"a\0b": 1}), ValueError, "is not a name"),
        (lambda p: tr.save(p / "a.npz", {}, {"epoch": 3}), ValueError, "strings by name"),
        (lambda p: tr.save(p / "a.npz", {}, {"tinygrad_rnn.sha256": "0"}), ValueError, "is for the checksum of the file"),
    ],
)
def test_what_cannot_be_saved_is_told_plainly(call, error, match, tmp_path):
    with pytest.raises(error, match=match):
        call(tmp_path)
    assert not os.listdir(tmp_path)


def test_without_safetensors(tmp_path, monkeypatch):
    """The package is for comparison alone."""
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    tr.save(tmp_path / "a.safetensors", net())
    assert_equal(tr.load(tmp_path / "a.safetensors"), net().state_dict())


def test_the_package_reads_and_writes_what_we_do(tmp_path):
    """Every dtype, empty arrays and numbers, metadata, and names that JSON escapes."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    dtypes = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
    state = {f"of {t}": np.arange(3).astype(t) for t in dtypes}
    state |= {"empty": np.zeros((2, 0)), "number": np.array(3), 'a "quoted\\ name\t\N{SNOWMAN}': np.ones((2, 1, 2), "f4")}
    path = tmp_path / "a.safetensors"
    for metadata in ({}, {"a": "b", 'c "': "\N{SNOWMAN}"}):
        tr.save(path, state, metadata)
        assert_equal(load_file(path), state)
        with safe_open(path, "np") as f:
            assert f.metadata() == metadata | {tr.checkpoint.CHECKSUM: f.metadata()[tr.checkpoint.CHECKSUM]}
        assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0
        assert tr.load_metadata(path) == metadata
        save_file(state, path, metadata or None)
        assert_equal(tr.load(path), state)
        assert tr.load_metadata(path) == metadata


# ---- broken files


def header_of(good):
    length = struct.unpack("<Q", good[:8])[0]
    return json.loads(good[8 : 8 + length]), good[8 + length :]


def safetensors_of(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def broken_safetensors(good):
    """(what is wrong, bytes) of files that are almost that of `good`, without its checksum, which would refuse them all."""
    header, data = header_of(good)
    del header["__metadata__"]
    good = safetensors_of(header, data)
    first, second = list(header)[:2]
    length = struct.unpack("<Q", good[:8])[0]

    def changed(**entry):
        return safetensors_of(header | {first: header[first] | entry}, data)

    for at in (0, 1, 7, 8, 9, 8 + length // 2, 8 + length - 1, 8 + length, 9 + length, len(good) // 2, len(good) - 1):
        yield f"truncated at {at}", good[:at]
    for value in (2**63, 2**64 - 1, 2**40, length + 8, length - 1, 0, 1, len(good)):
        yield f"header length {value}", struct.pack("<Q", value) + good[8:]
    yield "header length -1", struct.pack("<q", -1) + good[8:]
    yield "trailing bytes", good + b"\0"
    yield "a zip archive", b"PK\3\4" + good[4:]
    yield "a pickle", pickle.dumps({"weight": np.ones(3)})
    yield "zeros", bytes(1000)
    yield "text", b"weights: 1 2 3\n" * 20
    for text in (
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'"x"',
        b"{}}",
        b"\xff\xfe",
        b"{'a': 1}",
        b"[" * 100_000,
        b'{"a": 1e999}',
        b'{"a": NaN}',
    ):
        yield f"header {text[:10]!r}", safetensors_of(text, data)
    yield "an empty header with data", safetensors_of({}, data)
    yield "metadata that are numbers", safetensors_of(header | {"__metadata__": {"epoch": 3}}, data)
    yield "metadata that are a list", safetensors_of(header | {"__metadata__": ["a"]}, data)
    for name in ("F33", "f32", "", "BF16", "F8_E4M3", "C64", None, 32, "O", ["F32"]):
        yield f"dtype {name!r}", changed(dtype=name)
    for shape in ([-12, -1], [2**62, 8], [2**64, 0], [1e3], "3", None, [None], [[12]], [10**30], [True], 12, [12, 2], []):
        yield f"shape {shape!r}", changed(shape=shape)
    begin, end = header[first]["data_offsets"]
    for offsets in (
        [begin, end + 4],
        [begin + 4, end],
        [end, begin],
        [-4, end - begin - 4],
        [2**63, 2**63 + 48],
        [begin],
        None,
        [0.0, 48.0],
        ["0", "48"],
        header[second]["data_offsets"],
    ):
        yield f"offsets {offsets!r}", changed(data_offsets=offsets)
    yield (
        "a name that comes twice",
        safetensors_of(json.dumps(header)[:-1].encode() + b"," + json.dumps({first: header[first]})[1:].encode(), data),
    )
    yield "an entry without a shape", safetensors_of(header | {first: {"dtype": "F32", "data_offsets": [0, 48]}}, data)
    yield "an entry that is a number", safetensors_of(header | {first: 3}, data)
    yield (
        "one entry more",
        safetensors_of(header | {"more": {"dtype": "F32", "shape": [0], "data_offsets": [len(data)] * 2}}, data),
    )


def npy(array, **changes):
    buffer = BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    text = buffer.getvalue()
    for old, new in changes.pop("replace", {}).items():
        assert old in text
        text = text.replace(old, new.ljust(len(old)) if len(new) <= len(old) else new)
    return text


def zip_of(entries, compression=zipfile.ZIP_STORED):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("hostile-was-run",)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def broken_npz(good):
    with zipfile.ZipFile(BytesIO(good)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    name, content = entries[0]
    shape = b"'shape': (4, 3)"
    assert shape in content

    def changed(new, compression=zipfile.ZIP_STORED):
        return zip_of([(name, new), *entries[1:]], compression)

    for at in (
        0,
        1,
        4,
        30,
        60,
        150,
        len(good) // 4,
        len(good) // 2,
        len(good) - 400,
        len(good) - 30,
        len(good) - 10,
        len(good) - 1,
    ):
        yield f"truncated at {at}", good[:at]
    yield "zeros", bytes(1000)
    yield "text", b"weights: 1 2 3\n" * 20
    yield "a single array", content
    yield "a pickle", pickle.dumps({"weight": np.ones(3)})
    for at in (70, 130, 200, 240):
        yield f"a flipped bit at {at}", good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
    yield "compressed", zip_of(entries, zipfile.ZIP_DEFLATED)
    yield "a bomb", changed(npy(np.zeros(10_000_000)), zipfile.ZIP_DEFLATED)
    yield "lzma", zip_of(entries, zipfile.ZIP_LZMA)
    yield "an array that comes twice", zip_of([*entries, entries[0]])
    yield "another kind of file inside", zip_of([*entries, ("README", b"text")])
    yield "a pickled object", changed(npy(np.array([Hostile()], object)))
    yield "a pickle under the name of an array", changed(pickle.dumps(Hostile()))
    for dtype in (b"|O", b">f16", b"<c8", b"<U3", b"<M8[s]", b"<V4", b"nope", b"<f3"):
        yield f"dtype {dtype!r}", changed(content.replace(b"'<f4'", b"'" + dtype + b"'"))
    for lie in (
        b"(4, 4)",
        b"(2, 3)",
        b"(-4, -3)",
        b"(9999999, 9999999)",
        b"(10**9,)",
        b"(4.0, 3)",
        b"4",
        b"[4, 3]",
        b"None",
        b"(10000000000000000000000, 0)",
    ):
        text = content.replace(shape + b", }", b"'shape': " + lie + b", }")
        padding = len(text) - len(content)
        yield (
            f"shape {lie!r}",
            changed(
                text.replace(b" " * padding + b"\n", b"\n") if padding > 0 else text.replace(b"\n", b" " * -padding + b"\n", 1)
            ),
        )
    yield "a version that does not exist", changed(content[:6] + b"\x09\x00" + content[8:])
    yield "version 3", changed(content[:6] + b"\x03\x00" + content[8:])
    yield "no magic", changed(b"\x92" + content[1:])
    yield "a header that is no literal", changed(content.replace(b"'descr'", b"open()+"))
    yield "a header longer than the entry", changed(content[:8] + b"\xff\xff" + content[10:])
    yield "an empty entry", changed(b"")
    yield "data missing", changed(content[:-1])
    yield "data left over", changed(content + b"\0")
    yield "metadata that are no text", zip_of([*entries, ("__metadata__.npy", npy(np.array([200, 201], np.uint8)))])
    yield "metadata that are a number", zip_of([*entries, ("__metadata__.npy", npy(np.frombuffer(b"3", np.uint8)))])
    at = good.rindex(b"PK\5\6")
    yield "a directory elsewhere", good[: at + 16] + struct.pack("<I", 2**31) + good[at + 20 :]
    at = good.index(b"PK\1\2")
    yield "an entry elsewhere", good[: at + 42] + struct.pack("<I", 77) + good[at + 46 :]
    yield "encrypted", good[: at + 8] + b"\1\0" + good[at + 10 :]


def misfits(state):
    """(what does not fit a net, a state that could be saved)"""
    first, second = list(state)[:2]
    yield "nothing", {}
    yield "a missing name", {n: x for n, x in state.items() if n != first}
    yield "an unexpected name", state | {"other": np.ones(1)}
    yield "a renamed array", {("x" + n if n == first else n): x for n, x in state.items()}
    yield "a prefix", {"model": state}
    yield "a transposed array", state | {first: state[first].T}
    yield "an array with an axis more", state | {second: state[second][None]}
    yield "a scalar", state | {first: np.array(1, np.float32)}
    yield "float64", state | {first: state[first].astype(np.float64)}
    yield "float16", {n: x.astype(np.float16) for n, x in state.items()}
    yield "integers", state | {first: state[first].astype(np.int32)}
    yield "the last one wrong", state | {list(state)[-1]: np.ones(7, np.float32)}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@every_format
def test_broken_and_foreign_files_are_one_clear_error(suffix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = net()
    path = tmp_path / f"broken{suffix}"
    tr.save(path, model)
    good, before = path.read_bytes(), {n: x + 1 for n, x in model.state_dict().items()}
    model.load_state_dict(before)
    tr.load_into(path, net(1))
    kinds = 0

    def refused(what, call=lambda: tr.load_into(path, model)):
        nonlocal kinds
        kinds += 1
        with pytest.raises((tr.CheckpointError, OSError)) as caught:
            call()
        message = str(caught.value)
        assert str(path) in message and "\n" not in message and len(message) > len(str(path)) + 5, f"{what}: {message}"
        assert_equal(model.state_dict(), before)

    tracemalloc.start()
    try:
        for what, content in (broken_safetensors if suffix == ".safetensors" else broken_npz)(good):
            path.write_bytes(content)
            tracemalloc.reset_peak()
            refused(what)
            assert tracemalloc.get_traced_memory()[1] < 30e6 + tracemalloc.get_traced_memory()[0], what
    finally:
        tracemalloc.stop()
    for what, state in misfits(before):
        tr.save(path, state)
        refused(what)
    path.unlink()
    refused("a missing file")
    path.mkdir()
    refused("a folder")
    path.rmdir()
    os.mkfifo(path)
    refused("a pipe")
    path.unlink()
    path.symlink_to(path.name)
    refused("a link to itself")
    path.unlink()
    path.symlink_to("/dev/zero")
    refused("a device")
    assert kinds >= 60
    assert not os.path.exists("hostile-was-run")


@every_format
def test_no_flipped_bit_gives_other_numbers(suffix, tmp_path):
    """Every bit of the data is refused, and each byte elsewhere, or it changes nothing that `load` gives."""
    path, state = tmp_path / f"a{suffix}", {"x": np.arange(12, dtype="f4").reshape(3, 4), "mask": np.array([True, False] * 9)}
    tr.save(path, state, {"epoch": "3"})
    good = path.read_bytes()
    data = {i for x in state.values() for at in [good.index(x.tobytes())] for i in range(at, at + x.nbytes)}
    harmless = set()
    for at in range(len(good)):
        for bit in range(8) if at in data else (at % 8, (at + 3) % 8):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
            try:
                found = tr.load(path)
            except tr.CheckpointError:
                continue
            harmless.add(at)
            assert_equal(found, state)
    assert not harmless & data
    key = good.find(b"tinygrad_rnn.sha256")
    assert suffix == ".npz" or harmless <= set(range(key, key + 19))  # a file that has no checksum then


def test_checksums_that_do_not_fit(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "a.safetensors"
    tr.save(path, {"x": np.ones(3)})
    digest = header_of(path.read_bytes())[0]["__metadata__"]["tinygrad_rnn.sha256"]
    save_file({"x": np.zeros(3)}, path, {"tinygrad_rnn.sha256": digest})
    with pytest.raises(
        tr.CheckpointError, match="a.safetensors: damaged: tinygrad_rnn.sha256 of its metadata does not fit, unless another"
    ):
        tr.load(path)
    for wrong in ("", "0", digest[:-1], digest + "0", digest.upper(), "x" * 64):
        save_file({"x": np.ones(3)}, path, {"tinygrad_rnn.sha256": wrong})
        with pytest.raises(tr.CheckpointError, match="a.safetensors: damaged: tinygrad_rnn.sha256 .* is no checksum"):
            tr.load_metadata(path)


@every_format
def test_any_damage_is_an_error_or_harmless(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    tr.save(path, everything(), {"a": "b"})
    good, rng = path.read_bytes(), np.random.default_rng(0)
    outcomes = []
    for n in range(1500):
        bad = bytearray(good)
        if n % 3 == 0:
            bad = bad[: rng.integers(len(bad))]
        else:
            for _ in range(n % 5 + 1):
                # what is near the ends is structure, more often than not
                at = int(rng.integers(len(bad))) if n % 3 == 1 else int(rng.integers(600)) - 300
                bad[at] = rng.integers(256)
        path.write_bytes(bad)
        try:
            tr.load(path)
            outcomes.append("loaded")
        except tr.CheckpointError:
            outcomes.append("refused")
    assert outcomes.count("refused") > 500


def test_nothing_is_written_unless_every_part_fits(tmp_path):
    path = tmp_path / "run.safetensors"
    tr.save(path, everything(0))
    saved = tr.load(path)
    target = everything(1)
    before = arrays_of(target)
    for name, value, match in (
        ("optimizer.lr", np.array(-1.0), "lr must be at least 0, got -1.0"),
        ("optimizer.alpha", np.array(np.nan), "alpha must lie in"),
        ("generator.state", saved["generator.state"].astype(np.int64), "generator.state is uint64, the given array int64"),
        ("optimizer.3.square_avg", np.zeros(1, np.float32), "optimizer.3.square_avg has shape"),
    ):
        tr.save(path, saved | {name: value})
        with pytest.raises(tr.CheckpointError, match=f"run.safetensors: .*{match}"):
            tr.load_into(path, target)
        assert_equal(arrays_of(target), before)
    for n in (0, 1):
        frozen = np.zeros(3)
        frozen.flags.writeable = False
        parts = [("generator", tr.Generator(1)), ("x", frozen if n else 5)]
        tr.save(path, {"generator": tr.Generator(2), "x": np.zeros(3) if n else 6})
        with pytest.raises(tr.CheckpointError, match="read-only" if n else "x is a int, which cannot be written into"):
            tr.load_into(path, dict(parts))
        assert parts[0][1].state[0] == 1


# ---- training goes on


class Training:
    """A recurrent net with dropout, Adam, warm-up and a compiled or eager step; all data come from the number of the step."""

    def __init__(self, compiled, passes=False):
        self.model = tr.nn.RNN(3, 8, 2, seed=0)
        self.optimizer = tr.optim.AdamW(self.model.parameters(), 0.05)
        self.schedule = tr.optim.LinearLR(self.optimizer, total_iters=9)
        self.generator = tr.Generator(3)
        self.update = tr.compile(self.step, passes=passes) if compiled else self.step

    def step(self, x, y):
        output, _ = self.model(tr.dropout(x, 0.3, generator=self.generator))
        loss = tr.mse_loss(output[-1], y)
        self.optimizer.zero_grad()
        loss.backward()
        tr.optim.clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimizer.step()
        return loss

    def run(self, steps):
        losses = []
        for n in steps:
            rng = np.random.default_rng(n)
            losses.append(
                self.update(rng.standard_normal((6, 2, 3)).astype("f4"), rng.standard_normal((2, 8)).astype("f4")).item()
            )
            self.schedule.step()
        return losses

    @property
    def state(self):
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule, "generator": self.generator}


@every_format
@pytest.mark.parametrize("compiled", [False, True])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(suffix, compiled, tmp_path):
    path = tmp_path / f"run{suffix}"
    whole, first, second = (Training(compiled) for _ in range(3))
    losses = whole.run(range(14))
    head = first.run(range(6))
    tr.save(path, first.state)
    tr.load_into(path, second.state)
    assert head + second.run(range(6, 14)) == losses
    assert_equal(arrays_of(second.state), arrays_of(whole.state))


@pytest.mark.kernels
def test_a_program_sees_what_is_loaded(tmp_path):
    """With all passes: going back within a run repeats it to the bit, since both are replays."""
    training = Training(True, passes=True)
    training.run(range(5))
    tr.save(tmp_path / "a.npz", training.state)
    losses = training.run(range(5, 12))
    end = arrays_of(training.state)
    runs = training.update.program.runs
    tr.load_into(tmp_path / "a.npz", training.state)
    assert training.run(range(5, 12)) == losses
    assert training.update.program.runs == runs + 7
    assert_equal(arrays_of(training.state), end)


def test_paths_are_strings_or_paths(tmp_path):
    tr.save(str(tmp_path / "a.npz"), net())
    assert_equal(tr.load(pathlib.Path(tmp_path / "a.npz")), net().state_dict())
