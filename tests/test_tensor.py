"""Tensor as an array: construction, operators, numpy's protocols, refusals."""

import numpy as np
import pytest

import tinygrad_rnn as tr


def test_dtypes_of_construction():
    assert tr.Tensor([1, 2]).dtype == np.float32
    assert tr.Tensor(1.5).dtype == np.float32
    assert tr.Tensor(np.ones(2)).dtype == np.float64
    assert tr.Tensor(np.float64(2)).dtype == np.float64
    assert tr.Tensor([np.ones(2), np.ones(2)]).dtype == np.float64
    assert tr.Tensor([1, 2], dtype="float64").dtype == np.float64
    assert tr.Tensor(np.ones(2, ">f8")).dtype == np.dtype("float64")
    assert tr.Tensor(tr.Tensor([1.0])).dtype == np.float32


@pytest.mark.parametrize(
    "data", [np.ones(2, int), np.ones(2, np.float16), np.ones(2, complex), np.array(["a"]), np.array([True])]
)
def test_other_dtypes_are_refused(data):
    with pytest.raises(TypeError, match="float32"):
        tr.Tensor(data)


def test_text_and_objects_are_refused():
    for data in ("abc", [object()], [[1, 2], ["x", "y"]]):
        with pytest.raises(TypeError):
            tr.Tensor(data)
    with pytest.raises(TypeError, match="float32 or float64"):
        tr.Tensor([1.0], dtype="int32")


def test_memory_is_shared_with_the_array():
    a = np.zeros(3)
    t = tr.Tensor(a)
    a[0] = 5
    assert t.numpy() is a
    assert t.value[0] == 5


def test_python_numbers_take_the_dtype():
    for dtype in (np.float32, np.float64):
        x = tr.Tensor(np.ones(2, dtype))
        for y in (x + 1, 1 + x, x * 0.1, 2 / x, x**2, 2**x, x - True, np.float64(3) * x, np.float32(3) * x, -x):
            assert isinstance(y, tr.Tensor)
            assert y.dtype == dtype
            assert y.shape == (2,)


def test_numbers_of_numpy_take_the_dtype_and_arrays_keep_theirs():
    x = tr.Tensor(np.ones(2, np.float32))
    for number in (np.float64(0.1), np.float16(0.1), np.int64(3), np.float32(2)):
        for y in (number * x, x - number, x**number, number / x):
            assert type(y) is tr.Tensor
            assert y.dtype == np.float32
    for array in (np.array(0.1), np.ones(2)):
        with pytest.raises(TypeError, match="do not mix"):
            x * array
        with pytest.raises(TypeError, match="do not mix"):
            array * x


def test_arrays_on_the_left_record():
    x = tr.Tensor(np.ones(2), requires_grad=True)
    y = np.array([2.0, 3.0]) * x
    assert isinstance(y, tr.Tensor)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [2, 3])
    assert isinstance(np.ones((2, 2)) @ x.reshape(2, 1), tr.Tensor)


def test_numpy_functions_record_or_refuse():
    x = tr.Tensor(np.array([0.5]), requires_grad=True)
    y = np.tanh(x)
    assert isinstance(y, tr.Tensor)
    assert y.requires_grad
    np.testing.assert_array_equal(np.add(x, 1).value, [1.5])
    for call in (lambda: np.cbrt(x), lambda: np.add.reduce(x), lambda: np.add(x, 1, out=np.zeros(1)), lambda: np.median(x),
                 lambda: np.sum(x, 0, np.float32), lambda: np.concatenate([x, x], out=np.zeros(2))):  # fmt: skip
        with pytest.raises(TypeError, match="does not record on a Tensor"):
            call()


def test_numpy_where_and_clip_record():
    x, values = tr.Tensor([-1.0, 0.5, 2.0], requires_grad=True), np.array([-1.0, 0.5, 2.0])
    calls = [
        (np.where(values > 0, x, 0.0), np.where(values > 0, values, 0.0)),
        (np.where(tr.relu(x), x, -x), np.where(values > 0, values, -values)),
        (np.clip(x, 0, 1), np.clip(values, 0, 1)),
        (np.clip(x, None, 1), np.clip(values, None, 1)),
        (np.clip(x, a_min=0, a_max=None), np.clip(values, 0, None)),
        (np.clip(a=x, a_min=0, a_max=1), np.clip(values, 0, 1)),
    ]
    for y, expected in calls:
        assert isinstance(y, tr.Tensor) and y.requires_grad
        np.testing.assert_array_equal(y.value, expected)
    with pytest.raises(TypeError, match="does not record on a Tensor with out"):
        np.clip(x, 0, 1, out=np.zeros(3))


def test_conversions():
    x = tr.Tensor([[1.0, 2.0]])
    assert np.asarray(x) is x.value
    assert np.asarray(x, np.float64).dtype == np.float64
    assert np.array(x) is not x.value
    assert (len(x), x.ndim, x.size, x.T.shape) == (1, 2, 2, (2, 1))
    assert float(tr.Tensor([3.0])) == tr.Tensor([3.0]).item() == 3
    assert [t.item() for t in tr.Tensor([1.0, 2.0])] == [1, 2]
    assert bool(tr.Tensor([1.0]))
    assert not tr.Tensor(0.0)
    for call in (x.item, lambda: bool(x), lambda: float(x)):
        with pytest.raises(ValueError, match="shape"):
            call()
    with pytest.raises(TypeError, match="0-d"):
        len(tr.Tensor(1.0))


def test_unknown_operands_are_refused():
    x = tr.Tensor([1.0])
    for call in (lambda: x + "a", lambda: x + [1.0], lambda: None * x, lambda: x @ object()):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError, match="not an index"):
        x[tr.Tensor([0.0])]


def test_augmented_assignment_records_a_new_node():
    x = tr.Tensor([1.0], requires_grad=True)
    y = x
    y += 1
    assert y is not x
    assert x.value[0] == 1


def test_repr_is_short_and_names_what_matters():
    assert repr(tr.Tensor([1.0, 2.0])) == "Tensor([1., 2.], dtype=float32)"
    assert "op='tanh'" in repr(tr.tanh(tr.Tensor([1.0], requires_grad=True)))
    assert len(repr(tr.Tensor(np.zeros((1000, 1000))))) < 400


def test_tensors_in_lists_are_not_cut_off_silently():
    x = tr.Tensor(np.ones(2), requires_grad=True)
    for call in (lambda: tr.Tensor([x[0], x[1]]), lambda: tr.exp([[x[0]], [x[1]]]), lambda: tr.stack([[x[0], x[1]]])):
        with pytest.raises(TypeError, match="cut off from its graph"):
            call()
    assert tr.Tensor([[np.float64(1)]]).dtype == np.float64


MASKED = np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], [[False, True], [False, False]])
WHERE_ARRAYS_ENTER = {
    "Tensor": lambda x, m: tr.Tensor(m),
    "Tensor of a list": lambda x, m: tr.Tensor([m, m]),
    "Tensor with dtype": lambda x, m: tr.Tensor(m, dtype="float32"),
    "masked": lambda x, m: tr.Tensor(np.ma.masked),
    "Parameter": lambda x, m: tr.nn.Parameter(m),
    "right": lambda x, m: x * m,
    "left": lambda x, m: m * x,
    "left matmul": lambda x, m: m @ x,
    "numpy": lambda x, m: np.add(m, x),
    "in place": lambda x, m: m.copy().__iadd__(x),
    "function": lambda x, m: tr.maximum(m, x),
    "raw": lambda x, m: tr.exp(m),
    "stack": lambda x, m: tr.stack([x, m]),
    "norm": lambda x, m: np.linalg.norm(tr.Tensor(m)),
    "where": lambda x, m: tr.where(m > 2, x, x),
    "targets": lambda x, m: tr.cross_entropy(x, np.ma.masked_array([0, 1], [False, True])),
    "index": lambda x, m: x[np.ma.masked_array([0, 1], [False, True])],
    "one index of two": lambda x, m: x[0, np.ma.masked_array([0, 1], [False, True])],
    "take": lambda x, m: tr.take(x, np.ma.masked_array([0, 1], [False, True])),
    "comparison": lambda x, m: x > m,
    "comparison on the left": lambda x, m: m == x,
    "cotangent": lambda x, m: (x * 1).backward(m),
    "write": lambda x, m: x.__setitem__(0, m[0]),
    "write at": lambda x, m: x.__setitem__(m > 2, 0.0),
    "state": lambda x, m: tr.nn.Linear(2, 2, bias=False, dtype="float64").load_state_dict({"weight": m}),
    "layer": lambda x, m: tr.nn.Linear(2, 2, dtype="float64")(m),
    "checkpoint": lambda x, m: tr.save("never-written.npz", {"x": m}),
}  # fmt: skip


@pytest.mark.parametrize("name", WHERE_ARRAYS_ENTER)
def test_masked_arrays_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = tr.Tensor(np.ones((2, 2)), requires_grad="write" not in name)
    with pytest.raises(TypeError, match="a masked array, whose mask would be lost; fill the masked entries in"):
        WHERE_ARRAYS_ENTER[name](x, MASKED)
    assert x.grad is None and np.all(x.value == 1) and not list(tmp_path.iterdir())


def test_comparisons_are_numpys():
    x = tr.Tensor([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(x == 2, [False, True, False])
    np.testing.assert_array_equal(x != 2, [True, False, True])
    np.testing.assert_array_equal(x > tr.Tensor([1.0, 1.0, 4.0]), [False, True, False])
    np.testing.assert_array_equal([x < 2, x <= 2, x >= 2], [[1, 0, 0], [1, 1, 0], [0, 1, 1]])
    assert len({x, x, tr.Tensor([1.0])}) == 2
    assert x[x > 1].shape == (2,)


def test_odd_shapes_and_indices():
    x = tr.Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    assert x[np.array(1)].shape == (3,)
    assert tr.Tensor(np.arange(3.0))[np.array(1)].item() == 1
    for call in (lambda: x.reshape(-2, 3), lambda: x.reshape(2.0, 3)):
        with pytest.raises((tr.ShapeError, TypeError)):
            call()
    with pytest.raises(TypeError):
        x.transpose(0.7, 1.2)
    with pytest.raises(ValueError):
        np.asarray(x, np.float32, copy=False)
    assert f"{tr.Tensor(1.23456):.3f}" == "1.235"
    y = tr.Tensor(np.ones(1, np.float32), requires_grad=True)
    (y * 3).sum().backward(2.0)
    assert y.grad == 6
