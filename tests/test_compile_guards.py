"""A compiled function against the same function run eagerly, while the world around it changes between calls: three hundred
combinations of what a function reads and of what is done to it; and what a function itself leaves behind."""

import asyncio
import copy
import dataclasses
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import types
from collections import deque

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.compiler import CaptureError, reach

pytestmark = pytest.mark.kernels

FACTOR = 2.0
CHOSEN = np.array([0, 2, 1], np.int32)
MASK = np.array([True, False, True])
SETTINGS = {"factor": 3.0, "parts": [1.0, 2.0]}


def x_of(n=0):
    return np.random.default_rng(n).standard_normal((4, 3)).astype(np.float32)


class Scaled(tr.nn.Module):
    """A module of a user, with numbers, an array, a list and a child."""

    power = 1

    def __init__(self):
        self.linear = tr.nn.Linear(3, 3, seed=1)
        self.scale, self.mask, self.parts = 0.5, np.array([1, 0, 1]), [1.0, 2.0]
        self.activation = tr.tanh

    def forward(self, x):
        y = self.activation(self.linear(x)) * self.scale * sum(self.parts) * FACTOR
        return tr.where(self.mask.astype(bool), y, y * 0.5) * self.power


class Config:
    factor = 1.5

    def __init__(self):
        self.bias, self.unused = 1.0, 0
        self.inner = types.SimpleNamespace(factor=2.0)

    def twice(self):
        return self.bias * 2


class Slotted:
    __slots__ = ("factor",)

    def __init__(self):
        self.factor = 1.0


class World:
    """What functions read. Two of these, made alike, are for the compiled and for the eager run."""

    def __init__(self):
        self.net = tr.nn.Sequential(tr.nn.Linear(3, 4, seed=0), tr.nn.BatchNorm1d(4), tr.nn.Dropout(0.25, seed=3), Scaled4())
        self.scaled = Scaled()
        self.optimizer = tr.optim.SGD([*self.net.parameters(), *self.scaled.parameters()], lr=0.1, momentum=0.5)
        self.config, self.slotted, self.settings = Config(), Slotted(), copy.deepcopy(SETTINGS)
        self.array, self.integers = np.array([1.0, 2.0, 3.0], np.float32), np.array([2, 0, 1], np.int32)
        self.double, self.mask = np.array([1.0, 0.5, 0.25]), np.array([True, True, False])
        self.tensor = tr.Tensor(np.array([1.0, -1.0, 2.0], np.float32), requires_grad=True)
        self.constant = tr.Tensor(np.array([1.0, -1.0, 2.0], np.float32))
        self.number, self.flag, self.window = 2.0, True, deque([1.0, 2.0])
        self.layers = [tr.nn.Linear(3, 3, seed=n) for n in range(2)]
        self.generator = tr.Generator(5)


class Scaled4(tr.nn.Module):
    def __init__(self):
        self.weight = tr.nn.Parameter(np.linspace(0.5, 1, 4), np.float32, "scale")
        self.gain = 1.0

    def forward(self, x):
        return x * self.weight * self.gain


def attribute(owner, name, value):
    """Sets an attribute of world.<owner>, anew for each world."""

    def change(world):
        target = world
        for part in filter(None, owner.split(".")):
            target = target[int(part)] if part.isdigit() else getattr(target, part)
        setattr(target, name, value() if callable(value) else value)

    return change


def entry(path, key, value):
    def change(world):
        target = world
        for part in path.split("."):
            target = getattr(target, part)
        target[key] = value

    return change


def new_parameter(*shape):
    return lambda: tr.nn.Parameter(np.random.default_rng(9).standard_normal(shape), np.float32, "new")


CHANGES = {
    "nothing": lambda world: None,
    "freeze": attribute("net.0.weight", "requires_grad", False),
    "freeze all": lambda world: [setattr(p, "requires_grad", False) for p in world.scaled.parameters()[1:]],
    "new weight": attribute("net.0", "weight", new_parameter(4, 3)),
    "new array of a weight": attribute("net.0.weight", "value", lambda: np.ones((4, 3), np.float32)),
    "written weight": lambda world: world.net[0].weight.value.fill(0.5),
    "loaded": lambda world: world.scaled.load_state_dict({n: a * 2 for n, a in world.scaled.state_dict().items()}),
    "dropout p": attribute("net.2", "p", 0.75),
    "dropout generator": attribute("net.2", "generator", lambda: tr.Generator(11)),
    "momentum of the norm": attribute("net.1", "momentum", 0.5),
    "eps of the norm": attribute("net.1", "eps", 0.5),
    "buffer": attribute("net.1", "running_mean", lambda: tr.nn.module.Buffer(np.ones(4, np.float32))),
    "mode": lambda world: world.net.eval(),
    "learning rate": attribute("optimizer", "lr", 0.01),
    "momentum": attribute("optimizer", "momentum", 0.9),
    "another optimizer": lambda world: setattr(world, "optimizer", tr.optim.Adam(world.net.parameters(), lr=0.01)),
    "gain": attribute("net.3", "gain", -1.0),
    "scale": attribute("scaled", "scale", 2.0),
    "an array of a module": lambda world: world.scaled.mask.__setitem__(slice(None), [0, 1, 1]),
    "a list of a module": entry("scaled.parts", 1, -4.0),
    "activation": attribute("scaled", "activation", lambda: tr.sigmoid),
    "a child": attribute("scaled", "linear", lambda: tr.nn.Linear(3, 3, seed=7)),
    "config": attribute("config", "bias", 7.0),
    "config inside": attribute("config.inner", "factor", -2.0),
    "config shadowed": attribute("config", "factor", 0.25),
    "slots": attribute("slotted", "factor", -3.0),
    "settings": entry("settings", "factor", 5.0),
    "settings inside": lambda world: world.settings["parts"].__setitem__(0, 9.0),
    "settings grow": lambda world: world.settings["parts"].append(4.0),
    "float array": entry("array", 0, -5.0),
    "integers": entry("integers", 0, 1),
    "double array": entry("double", 1, 8.0),
    "mask": entry("mask", 0, False),
    "new array": attribute("", "array", lambda: np.array([3.0, 2.0, 1.0], np.float32)),
    "tensor": attribute("tensor", "value", lambda: np.array([0.5, 0.25, 4.0], np.float32)),
    "written tensor": lambda world: world.constant.__setitem__(1, 6.0),
    "frozen tensor": attribute("tensor", "requires_grad", False),
    "new constant": attribute("", "constant", lambda: tr.Tensor(np.array([0.5, 0.25, 4.0], np.float32))),
    "number": attribute("", "number", -1.0),
    "flag": attribute("", "flag", False),
    "deque": lambda world: world.window.append(6.0),
    "layers": lambda world: world.layers.append(tr.nn.Linear(3, 3, seed=8)),
    "other layers": lambda world: world.layers.reverse(),
    "generator": lambda world: world.generator.load_state_dict({"state": np.array([7, 0], np.uint64)}),
    "new generator": attribute("", "generator", lambda: tr.Generator(6)),
}


def train(world):
    def step(x):
        world.optimizer.zero_grad()
        loss = (world.net(x) ** 2).sum()
        loss.backward()
        world.optimizer.step()
        return loss

    return step


def whole(world):
    net, optimizer = world.scaled, world.optimizer

    class Trainer:
        def __init__(self):
            self.net, self.history = net, []

        def step(self, x):
            optimizer.zero_grad()
            loss = (self.net(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss, self.net.linear.weight.grad

    return Trainer().step


def of_config(world):
    config, slotted = world.config, world.slotted

    def step(x):
        return tr.mul(x, config.factor) + config.twice() * config.inner.factor * slotted.factor + config.bias

    return step


def of_containers(world):
    settings, window = world.settings, world.window

    def step(x):
        return tr.mul(x, settings["factor"]) + sum(settings["parts"]) + sum(window)

    return step


def of_arrays(world):
    def step(x):
        y = tr.Tensor(x)[:, world.integers] * world.array + world.double.astype(np.float32)
        return tr.where(world.mask, y, y * y)

    return step


def of_tensors(world):
    def step(x):
        world.tensor.zero_grad()
        y = (world.tensor * x + world.constant) * world.number
        if world.tensor.requires_grad:
            y.sum().backward()
        return y if world.flag else -y

    return step


def of_layers(world):
    def step(x):
        for layer in world.layers:
            x = tr.tanh(layer(x))
        return tr.dropout(x, 0.5, generator=world.generator)

    return step


FUNCTIONS = {f.__name__: f for f in (train, whole, of_config, of_containers, of_arrays, of_tensors, of_layers)}


def state_of(world):
    parts = [*world.net.state_dict().values(), *world.scaled.state_dict().values(), world.generator.state]
    tensors = [*world.net.parameters(), *world.scaled.parameters(), world.tensor]
    return [a.copy() for a in parts] + [None if t.grad is None else t.grad.copy() for t in tensors]


def flat(x):
    return [y for part in x for y in flat(part)] if isinstance(x, (tuple, list)) else [x]


def played(make, change, compiled, **settings):
    """Everything that can be seen over calls before, between and after two changes."""
    world = World()
    fn = make(world)
    f = tr.compile(fn, **settings) if compiled else fn
    seen = []
    for n in range(9):
        if n in (4, 7):
            change(world)
        results = [y.value if isinstance(y, tr.Tensor) else y for y in flat(f(x_of(n)))]
        seen += [np.copy(y) for y in results] + state_of(world)
    return seen, f


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_change_outside_is_seen(function, change):
    expected, _ = played(FUNCTIONS[function], CHANGES[change], False)
    got, f = played(FUNCTIONS[function], CHANGES[change], True)
    for mine, theirs in zip(got, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-6)
    if change == "nothing":
        assert f.program.runs == 7 and len(f.programs) == 1


# ---- variables of a module


def test_globals_are_seen(monkeypatch):
    module = sys.modules[__name__]

    def helper():
        return FACTOR * SETTINGS["parts"][1]

    step = tr.compile(lambda x: tr.mul(x, helper()) + Scaled.power)
    for n, change in enumerate(
        [
            lambda: None,
            lambda: monkeypatch.setattr(module, "FACTOR", 5.0),
            lambda: monkeypatch.setitem(SETTINGS, "parts", [0.0, 4.0]),
            lambda: monkeypatch.setattr(Scaled, "power", 3),
            lambda: monkeypatch.setattr(module, "helper", None, raising=False),
        ]
    ):
        change()
        for m in range(4):
            x = x_of(10 * n + m)
            np.testing.assert_array_equal(step(x).value, x * np.float32(helper()) + np.float32(Scaled.power))
    assert len(step.programs) == 4


def test_what_the_function_does_not_read_captures_nothing_anew():
    world = World()
    step = tr.compile(of_config(world))
    for n in range(8):
        world.config.unused = n
        world.config.other = n
        world.net[3].gain = float(n)  # of a module that is out of reach
        step(x_of(n))
    assert len(step.programs) == 1 and step.program.runs == 6


def test_a_variable_that_is_called_like_an_attribute_is_another():
    """The counter of a loop may be called `step`, as what the function calls of its optimizer is."""
    code = """
net = tr.nn.Linear(3, 2, seed=0)
optimizer = tr.optim.SGD(net.parameters())
@tr.compile
def update(x):
    optimizer.zero_grad()
    loss = net(x).sum()
    loss.backward()
    optimizer.step()
    return loss
for step in range(6):
    loss = update(x)
"""
    variables = {"tr": tr, "x": x_of(), "__name__": __name__}
    exec(code, variables)
    assert len(variables["update"].programs) == 1 and variables["update"].program.runs == 4


def test_going_back_to_what_was_finds_the_old_program():
    config = Config()
    step = tr.compile(lambda x: tr.mul(x, config.bias))
    for n in range(12):
        config.bias = float(n % 2)
        np.testing.assert_array_equal(step(x_of(n)).value, x_of(n) * np.float32(n % 2))
    assert len(step.programs) == 2 and sum(p.runs for p in step.programs) == 8


def test_the_warning_of_many_captures_says_what_changes():
    config = Config()
    step = tr.compile(lambda x: tr.mul(x, config.bias), programs=2)
    with pytest.warns(UserWarning, match=r"captured 8 times.*Since the last captures: config.bias changed from 5.0 to 7.0"):
        for n in range(8):
            config.bias = float(n)
            step(x_of())


def test_arrays_are_watched_up_to_the_size_that_compile_names():
    array = np.zeros((512, 512), np.float32)
    assert array.nbytes == reach._ARRAY_BYTES and "1 MiB" in tr.compile.__doc__
    step = tr.compile(lambda x: tr.mul(x, float(array[-1, -1])))
    for n in range(6):
        array[-1, -1] = n // 3
        np.testing.assert_array_equal(step(x_of(n)).value, x_of(n) * np.float32(n // 3))
    assert len(step.programs) == 2


# ---- ways to read a number: what is there before, the expression, and the change that puts NEW there

OF_C = "class C:\n    v = 2.0\n    def m(self): return self.v\nc = C()\n"
READERS = {
    "a global that comes later": ("def h():\n    try: return G\n    except NameError: return 1.0", "h()", "G = NEW"),
    "a builtin that is shadowed": ("", "abs(2.0)", "abs = lambda x: NEW"),
    "globals()": ("G = 2.0", "globals().get('G')", "G = NEW"),
    "an attribute of a function": ("def h(): return h.v\nh.v = 2.0", "h()", "h.v = NEW"),
    "defaults": ("def h(a=2.0): return a", "h()", "h.__defaults__ = (NEW,)"),
    "keyword defaults": ("def h(*, a=2.0): return a", "h()", "h.__kwdefaults__['a'] = NEW"),
    "a name that is computed": ("class C: pass\nc = C(); c.v1 = 2.0", "getattr(c, f'v{1}')", "c.v1 = NEW"),
    "a name with a computed end": ("class C: pass\nc = C(); c.v1 = 2.0; k = '1'", "getattr(c, 'v' + k)", "c.v1 = NEW"),
    "a name from a list": ("class C: pass\nc = C(); c.a = 2.0; names = ['a']", "getattr(c, names[0])", "c.a = NEW"),
    "methods by name": (f"{OF_C}c.k = 'm'\nC.get = lambda self: getattr(self, self.k)()", "c.get()", "c.v = NEW"),
    "vars": ("class C: pass\nc = C(); c.v = 2.0", "sum(vars(c).values())", "c.v = NEW"),
    "hasattr": ("class C: pass\nc = C()", "2.0 if hasattr(c, 'v') else 1.0", "c.v = NEW"),
    "getattr with a default": ("class C: pass\nc = C()", "getattr(c, 'v', 1.0)", "c.v = NEW"),
    "AttributeError": (
        "class C: pass\nc = C()\ndef h():\n    try: return c.v\n    except AttributeError: return 1.0",
        "h()",
        "c.v = NEW",
    ),
    "a class attribute that comes later": (OF_C, "getattr(c, 'w', 1.0)", "C.w = NEW"),
    "attrgetter": (f"import operator\n{OF_C}get = operator.attrgetter('v')", "get(c)", "c.v = NEW"),
    "attrgetter of parts": (f"import operator\n{OF_C}c.i = C()", "operator.attrgetter('i.v')(c)", "c.i.v = NEW"),
    "methodcaller": (f"import operator\n{OF_C}get = operator.methodcaller('m')", "get(c)", "c.v = NEW"),
    "a private slot": (
        "class C:\n    __slots__ = ('__v',)\n    def __init__(self): self.__v = 2.0\n"
        "    def get(self): return self.__v\n    def put(self, v): self.__v = v\nc = C()",
        "c.get()",
        "c.put(NEW)",
    ),
    "a slot that is empty": ("class C: __slots__ = ('v',)\nc = C()", "getattr(c, 'v', 1.0)", "c.v = NEW"),
    "a method": (OF_C, "c.m()", "C.m = lambda self: NEW"),
    "a method of a base": (f"{OF_C}class D(C): pass\nd = D()", "d.m()", "C.m = lambda self: NEW"),
    "a method over that of a base": (f"{OF_C}class D(C): pass\nd = D()", "d.m()", "D.m = lambda self: NEW"),
    "an attribute over that of a base": (f"{OF_C}class D(C): pass\nd = D()", "d.v", "D.v = NEW"),
    "a static method": ("class C:\n    m = staticmethod(lambda: 2.0)", "C.m()", "C.m = staticmethod(lambda: NEW)"),
    "a class method": ("class C:\n    m = classmethod(lambda cls: 2.0)", "C.m()", "C.m = classmethod(lambda cls: NEW)"),
    "a property": ("class C: v = property(lambda self: 2.0)\nc = C()", "c.v", "C.v = property(lambda self: NEW)"),
    "an operator": ("class C:\n    def __call__(self): return 2.0\nc = C()", "c()", "C.__call__ = lambda self: NEW"),
    "another class": (f"{OF_C}class D: v = 3.0\n", "c.v", "c.__class__ = D; D.v = NEW"),
    "a metaclass": ("class M(type): v = 2.0\nclass C(metaclass=M): pass", "C.v", "M.v = NEW"),
    "what a constructor reads": ("k = [2.0]\nclass C:\n    def __init__(self): self.v = k[0]", "C().v", "k[0] = NEW"),
    "a descriptor": (
        "class D:\n    def __get__(self, x, cls): return x._v\nclass C: v = D()\nc = C(); c._v = 2.0",
        "c.v",
        "c._v = NEW",
    ),
    "the state of a descriptor": (
        "class D:\n    k = 1.0\n    def __get__(self, x, cls): return self.k\nd = D()\nclass C: v = d\nc = C()",
        "c.v",
        "d.k = NEW",
    ),
    "cached_property": (
        f"import functools\n{OF_C}class D(C):\n    @functools.cached_property\n    def w(self): return self.v\nd = D()",
        "d.w",
        "d.v = NEW; del d.w",
    ),
    "a cached_property that is set": (
        f"import functools\n{OF_C}class D(C):\n    @functools.cached_property\n    def w(self): return self.v\nd = D()",
        "d.w",
        "d.w = NEW",
    ),
    "partialmethod": (f"import functools\n{OF_C}C.n = functools.partialmethod(C.m)", "c.n()", "c.v = NEW"),
    "keywords of a partial": ("import functools\nh = functools.partial(dict, v=2.0)", "h()['v']", "h.keywords['v'] = NEW"),
    "singledispatch": (
        "import functools\n@functools.singledispatch\ndef h(x): return 2.0",
        "h(1)",
        "h.register(int, lambda x: NEW)",
    ),
    "what numpy calls": ("k = 2.0\nh = np.vectorize(lambda x: x * k)", "h(1.0)", "k = NEW"),
    "made by the first call": (
        "class C:\n    v = None\n    def get(self):\n        if self.v is None: self.v = 2.0\n        return self.v\nc = C()",
        "c.get()",
        "c.v = NEW",
    ),
    "an object that the first call makes": (
        f"{OF_C}d = {{}}\ndef h():\n    if 'c' not in d: d['c'] = C()\n    return d['c'].v",
        "h()",
        "d['c'].v = NEW",
    ),
    "the order of a dictionary": ("d = {'a': 2.0, 'b': 3.0}", "next(iter(d.values()))", "d['a'] = d.pop('a')"),
    "the order of an OrderedDict": (
        "import collections\nd = collections.OrderedDict(a=2.0, b=3.0)",
        "next(iter(d.values()))",
        "d.move_to_end('a')",
    ),
    "keys": (f"{OF_C}d = {{c: 1}}", "sum(k.v for k in d)", "c.v = NEW"),
    "defaultdict": ("import collections\nd = collections.defaultdict(lambda: 2.0)", "d['v']", "d['v'] = NEW"),
    "default_factory": (
        "import collections\nd = collections.defaultdict(lambda: 2.0)",
        "d['v']",
        "d.clear(); d.default_factory = lambda: NEW",
    ),
    "an attribute of a dictionary": ("class D(dict): pass\nd = D(a=1); d.v = 2.0", "d.v", "d.v = NEW"),
    "a dictionary of attributes": (
        "class D(dict):\n    __getattr__ = dict.__getitem__\nd = D(v=2.0)",
        "d.v",
        "d['v'] = NEW",
    ),
    "an attribute of a list": ("class L(list): pass\nl = L(); l.v = 2.0", "l.v", "l.v = NEW"),
    "a method of a list": ("k = 2.0\nclass L(list):\n    def m(self): return k\nl = L()", "l.m()", "k = NEW"),
    "an attribute of a tuple": ("class T(tuple): pass\nt = T(); t.v = 2.0", "t.v", "t.v = NEW"),
    "an attribute of an array": ("class A(np.ndarray): pass\na = np.ones(2).view(A); a.v = 2.0", "a.v", "a.v = NEW"),
    "a named tuple's property": (
        "import typing\nk = 2.0\nclass T(typing.NamedTuple):\n    a: int\n    v = property(lambda self: k)\nt = T(1)",
        "t.v",
        "k = NEW",
    ),
    "UserDict": ("import collections\nd = collections.UserDict(v=2.0)", "d['v']", "d['v'] = NEW"),
    "UserList": ("import collections\nd = collections.UserList([2.0])", "d[0]", "d[0] = NEW"),
    "ChainMap": ("import collections\na = {}\nd = collections.ChainMap(a, {'v': 2.0})", "d['v']", "a['v'] = NEW"),
    "ConfigParser": (
        "import configparser\nd = configparser.ConfigParser(); d['a'] = {'v': '2'}",
        "float(d['a']['v'])",
        "d['a']['v'] = str(NEW)",
    ),
    "mappingproxy": ("import types\na = {'v': 2.0}\nd = types.MappingProxyType(a)", "d['v']", "a['v'] = NEW"),
    "a view of values": ("a = {'v': 2.0}\nd = a.values()", "sum(d)", "a['v'] = NEW"),
    "a method of a dictionary": ("d = {'v': 2.0}\nget = d.get", "get('v')", "d['v'] = NEW"),
    "bytearray": ("d = bytearray(b'ab')", "float(d[0])", "d[0] = int(NEW)"),
    "memoryview": ("import array\na = array.array('d', [2.0])\nd = memoryview(a)", "d[0]", "a[0] = NEW"),
    "an array of objects": ("a = np.array([[2.0, None]], object)", "a[0, 0]", "a[0, 0] = NEW"),
    "a list in an array of objects": ("l = [2.0]\na = np.array([None], object); a[0] = l", "a[0][0]", "l[0] = NEW"),
    "weakref": (f"import weakref\n{OF_C}r = weakref.ref(c)", "r().v", "c.v = NEW"),
    "WeakValueDictionary": (f"import weakref\n{OF_C}d = weakref.WeakValueDictionary(c=c)", "d['c'].v", "c.v = NEW"),
    "WeakKeyDictionary": (f"import weakref\n{OF_C}d = weakref.WeakKeyDictionary({{c: 2.0}})", "d[c]", "d[c] = NEW"),
    "itertools.repeat": ("import itertools\nl = [2.0]\nr = itertools.repeat(l)", "next(r)[0]", "l[0] = NEW"),
    "match": (f"{OF_C}def h():\n    match c:\n        case C(v=v): return v", "h()", "c.v = NEW"),
    "an import inside": (
        "import sys, types\nsys.modules['of_a_user'] = u = types.ModuleType('of_a_user'); u.v = 2.0\n"
        "def h():\n    from of_a_user import v\n    return v",
        "h()",
        "u.v = NEW",
    ),
    "__getattr__ of a module": (
        "import types\nu = types.ModuleType('u')\nexec('d = {\"v\": 2.0}\\ndef __getattr__(n): return d[n]', vars(u))",
        "u.v",
        "u.d['v'] = NEW",
    ),
    "the sign of zero": ("k = np.float32(0.0)", "np.copysign(1.0, k)", "k = np.float32(-0.0)"),
    "the sign of a complex zero": ("k = 0j", "np.copysign(1.0, k.real)", "k = -0j"),
    "a number with an attribute": (
        "class F(float): pass\nk = F(2.0); k.v = 2.0",
        "k.v",
        "k = F(2.0); k.v = NEW",
    ),
    "requires_grad": (
        "p = tr.nn.Parameter(np.ones(2))",
        "float(p.requires_grad)",
        "p.requires_grad = not p.requires_grad",
    ),
    "the array of a buffer": (
        "b = tr.nn.module.Buffer(np.ones(2))",
        "float(b.value[0])",
        "b.value = np.full(2, NEW)",
    ),
}
KINDS = {
    "function": "def step(x): return tr.mul(x, 0.5) * float({})",
    "method": "class T:\n    def go(self, x): return tr.mul(x, 0.5) * float({})\nstep = T().go",
    "module": "class N(tr.nn.Module):\n    def forward(self, x): return tr.mul(x, 0.5) * float({})\nstep = N()",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_a_number_is_seen_however_it_is_read(monkeypatch, reader, kind):
    before, read, change = READERS[reader]

    def results(compiled):
        user = types.ModuleType(f"a_user_{compiled}")
        monkeypatch.setitem(sys.modules, user.__name__, user)
        user.np, user.tr = np, tr
        exec(f"{before}\n{KINDS[kind].format(read)}", vars(user))
        step, seen = tr.compile(user.step) if compiled else user.step, []
        for n in range(8):
            if n in (3, 6):
                exec(change.replace("NEW", f"{n + 4.0}") if n == 3 or "del " not in change else "", vars(user))
            seen.append(step(x_of(n)).value.copy())
        return seen, step

    expected, _ = results(False)
    got, step = results(True)
    np.testing.assert_array_equal(got, expected)
    assert not np.array_equal(expected[3] / x_of(3), expected[2] / x_of(2)) and step._captures <= 3


def test_reading_by_name_captures_nothing_anew_for_what_it_does_not_read():
    class Numbered(tr.nn.Module):
        def __init__(self):
            self.l0, self.l1 = (tr.nn.Linear(3, 3, seed=n) for n in range(2))

        def forward(self, x):
            for n in range(2):
                x = getattr(self, f"l{n}")(x)
            return x

    @dataclasses.dataclass
    class Config:
        scale: float = 2.0
        lr: float = 0.1

    config = Config()

    class Trainer:
        """Of a usual kind: constant names, counters and histories beside them."""

        def __init__(self):
            self.net, self.scale, self.count, self.history = Numbered(), 2.0, 0, []
            self.optimizer = tr.optim.SGD(self.net.parameters(), lr=0.1)

        def step(self, x):
            net = getattr(self, "net")  # noqa: B009
            loss = net(x).sum() * getattr(self, "scale", 1.0) * config.scale if hasattr(self, "net") else x
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return loss

    trainer = Trainer()
    step = tr.compile(trainer.step)
    for n in range(8):
        trainer.history.append(step(x_of(n)).item())
        trainer.count += 1
        trainer.optimizer.lr *= 0.9
    assert step.program.runs == 6 and len(step.programs) == 1


def test_a_layer_of_the_library_may_be_given_another_forward():
    net = tr.nn.Linear(3, 3, seed=0)
    step = tr.compile(lambda x: net(x))
    for n in range(6):
        if n == 3:
            net.forward = lambda x: tr.mul(x, 3.0)
        np.testing.assert_allclose(step(x_of(n)).value, net(x_of(n)).value, rtol=1e-6)
    assert len(step.programs) == 2


def test_an_array_that_the_first_call_makes_is_not_stored_by_later_ones():
    holder = types.SimpleNamespace(mask=None)

    def step(x):
        if holder.mask is None:
            holder.mask = np.ones(3, np.float32)
        return tr.mul(x, float(holder.mask[0]))

    step = tr.compile(step)
    for n in range(9):
        if n == 3:
            holder.mask[0] = 5.0
        if n == 6:
            holder.mask = np.full(3, 7.0, np.float32)
        np.testing.assert_array_equal(step(x_of(n)).value, x_of(n) * np.float32([1, 5, 7][n // 3]))
        assert holder.mask[0] == [1, 5, 7][n // 3]


# ---- what a function leaves behind


class Stateful(tr.nn.Module):
    def __init__(self):
        self.linear, self.last, self.calls = tr.nn.Linear(3, 3, seed=0), None, 0

    def forward(self, x):
        self.last = {"h": tr.tanh(self.linear(x)), "x": [x]}
        self.calls += 1
        return self.last["h"] * 2


def test_a_tensor_that_is_stored_is_stored_by_replays_too():
    net, kept, cell, ring = Stateful(), {}, None, [None, None]
    holder = types.SimpleNamespace(h=None)

    def step(x):
        nonlocal cell
        y = net(x)
        holder.h = kept["y"] = ring[1] = y
        cell = y.detach().value
        return y.sum()

    step = tr.compile(step)
    for n in range(6):
        x = tr.Tensor(x_of(n))
        step(x)
        with tr.no_grad():
            h = tr.tanh(net.linear(x))
        np.testing.assert_allclose(net.last["h"].value, h.value, atol=1e-6)
        np.testing.assert_array_equal(net.last["x"][0].value, x.value)
        for y in (holder.h.value, kept["y"].value, ring[1].value, cell):
            np.testing.assert_allclose(y, 2 * h.value, atol=1e-6)
    assert step.program.runs == 4 and len(step.programs) == 1 and net.calls == 2  # counting happens in captures and checks


def test_a_state_that_is_carried_from_call_to_call_is_refused():
    holder = types.SimpleNamespace(h=tr.Tensor(np.zeros((4, 3), np.float32)))

    def step(x):
        holder.h = tr.tanh(holder.h + x)
        return holder.h.sum()

    step = tr.compile(step)
    step(x_of())
    with pytest.raises(CaptureError, match="constant"):
        step(x_of())


def appended(x, holder=types.SimpleNamespace(history=[])):  # noqa: B008
    holder.history.append(tr.Tensor(x) * 2.0)
    return holder.history[-1].sum()


def in_a_set(x, seen=set()):  # noqa: B006
    seen.add(tr.Tensor(x))
    return tr.mul(x, 1.0)


def averaged(x, mean=np.zeros(3, np.float32)):  # noqa: B008
    mean += 0.1 * x[0]
    return tr.mul(x, 1.0)


@pytest.mark.parametrize(("fn", "match"), [(appended, "list .*history"), (in_a_set, "set"), (averaged, "array .*numpy")])
def test_what_a_replay_would_not_do_is_refused_at_once(fn, match):
    with pytest.raises(CaptureError, match=match):
        tr.compile(fn)(x_of())


def test_forgetting_the_gradient_of_an_argument_reaches_the_caller():
    def step(x):
        x.zero_grad()
        (x * x).sum().backward()

    def late(x):
        (x * x).sum().backward()
        x.zero_grad()

    def piling(x):
        (x * x).sum().backward()

    for fn, expected in ((step, [4.0] * 4), (late, [None] * 4), (piling, [4.0, 8.0, 12.0, 16.0])):
        f, x = tr.compile(fn), tr.Tensor(np.full(1, 2.0), requires_grad=True)
        for value in expected:
            f(x)
            assert x.grad is None if value is None else x.grad[0] == value
        assert f.program.runs == 2


def test_a_graph_recorded_before_a_compiled_update_is_not_walked_with_its_weights():
    net = tr.nn.Linear(3, 2, seed=0)
    optimizer = tr.optim.SGD(net.parameters(), 0.1)

    @tr.compile
    def step(x):
        optimizer.zero_grad()
        net(x).sum().backward()
        optimizer.step()

    frozen = tr.compile(lambda x: net(x).sum())
    for n in range(5):
        x = tr.Tensor(x_of(n), requires_grad=True)
        before, other = net(x).sum(), net(x).sum()
        frozen(x_of(n))
        other.backward()  # which writes to nothing
        step(x_of(n))
        with pytest.raises(RuntimeError, match="written to in place"):
            before.backward()
        net(x).sum().backward()
    assert step.program.runs == 3
    del step
    gc.collect()
    before = net(x).sum()
    before.backward()


# ---- calls within calls, threads, forks


def test_a_call_within_a_call_runs_the_function():
    """From a finalizer, in the middle of the call of a program, where the arguments of the outer call have been taken over."""
    seen = []

    class Finalized:
        def __del__(self):
            seen.append(step(np.full(3, 50.0, np.float32)).value)

    @tr.compile
    def step(x):
        return tr.mul(x, x)

    class Interrupted:
        """A replay that is interrupted before it begins."""

        def __init__(self, replay):
            self.replay, self.count = replay, replay.count

        @property
        def runs(self):
            return self.replay.runs

        def run(self):
            Finalized()
            return self.replay.run()

    for n in range(2):
        step(np.full(3, n, np.float32))
    step.program.replay = Interrupted(step.program.replay)
    for n in range(2, 6):  # the first by way of _call, then by the shortcut
        np.testing.assert_array_equal(step(np.full(3, n, np.float32)).value, np.full(3, n * n))
    np.testing.assert_array_equal(seen, np.full((4, 3), 2500.0))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_signal_handlers_may_call_it():
    step = tr.compile(lambda x: tr.mul(x, x) + 1.0)
    wrong = []

    def handler(*_):
        if step(np.full(300, 3.0, np.float32)).value[0] != 10:
            wrong.append("inner")

    for n in range(4):  # what a handler does during a capture belongs to the capture, and the check says so
        step(np.full(300, n, np.float32))
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
        for n in range(4000):
            if step(np.full(300, n % 7, np.float32)).value[-1] != (n % 7) ** 2 + 1:
                wrong.append("outer")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not wrong


def test_tasks_of_asyncio_may_call_it():
    step = tr.compile(lambda x: tr.mul(x, x))

    async def worker(n):
        out = []
        for _ in range(20):
            with tr.no_grad():
                await asyncio.sleep(0)
                out.append(step(np.full(3, n, np.float32)).value[0])
        return out

    async def main():
        return await asyncio.gather(*map(worker, range(5)))

    assert asyncio.run(main()) == [[n * n] * 20 for n in range(5)]


def test_a_graph_that_is_read_belongs_to_one_call():
    rnn = tr.nn.RNN(3, 32, seed=0)

    @tr.compile
    def step(x):
        rnn.zero_grad()
        loss = rnn(x)[0].sum()
        loss.backward()
        return loss

    xs = [np.full((30, 2, 3), n, np.float32) for n in range(4)]
    expected = []
    for _ in range(3):
        for x in xs:
            step(x)
            expected.append((step.graph[0, 29, "h"].value, step.graph.log_norms().sum()))
    expected, stop, wrong = expected[-4:], threading.Event(), []

    def call():
        n = 0
        while not stop.is_set():
            step(xs[n % 4])
            n += 1

    thread = threading.Thread(target=call)
    thread.start()
    try:
        for _ in range(40):
            h = step.graph[0, 29, "h"].value
            wrong += [h] * (not any(np.array_equal(h, a) for a, _ in expected))
            norm = step.graph.log_norms().sum()
            wrong += [norm] * (norm not in [b for _, b in expected])
            with step.graph.frozen():
                a, b = step.graph[0, 29, "h"].value, step.graph.log_norms().sum()
            wrong += [b] * (not any(np.array_equal(a, c) and b == d for c, d in expected))
    finally:
        stop.set()
        thread.join()
    assert not wrong


FORKS = """
import os, sys, threading, numpy as np, tinygrad_rnn as tr
rnn = tr.nn.RNN(3, 16, seed=0)
x = np.ones((20, 2, 3), np.float32)
step = tr.compile(lambda x, n: rnn(x)[0].sum() * float(n))
for _ in range(3):
    step(x, 1)
def call():
    n = 0
    while True:
        step(x, n % 3)  # replays, captures and checks
        n += 1
threading.Thread(target=call, daemon=True).start()
for _ in range(60):
    child = os.fork()
    if not child:
        ok = step(x, 1).value == step(x, 1).value
        step.graph[0, 3, "h"].value
        os._exit(0 if ok else 3)
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_calls_it_whatever_other_threads_did():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS], check=True, timeout=120)


# ---- copies


class Model(tr.nn.Module):
    def __init__(self):
        self.linear = tr.nn.Linear(3, 2, seed=0)
        self.step = tr.compile(self.loss)

    def loss(self, x):
        self.zero_grad()
        y = (self.linear(x) ** 2).sum()
        y.backward()
        return y

    @tr.compile
    def decorated(self, x):
        return self.linear(x)


@tr.compile
def doubled(x):
    return tr.mul(x, 2.0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_models_with_compiled_functions_are_copied(copied):
    model = Model()
    for n in range(3):
        model.step(x_of(n))
        model.decorated(x_of(n))
    other = copied(model)
    assert other.step.programs == [] and other.step.__name__ == "loss"
    other.linear.weight.value *= 2
    for n in range(4):
        x = x_of(n)
        mine, theirs = model.step(x), other.step(x)
        for net, loss in ((model, mine), (other, theirs)):
            np.testing.assert_allclose(loss.item(), (net.linear(x).value ** 2).sum(), rtol=1e-5)
            np.testing.assert_allclose(net.decorated(x).value, net.linear(x).value, rtol=1e-5)
    assert not np.array_equal(model.linear.weight.grad, other.linear.weight.grad)
    assert other.step.program.runs == 2
    assert copied(doubled) is doubled and copied(Model.decorated) is Model.decorated


def test_the_main_job_captures_its_training_once():
    """A function of the library itself: what it reads is the net and the optimizer, not the state of the library."""
    from tinygrad_rnn.experiment import net as experiment

    made = []

    class Counted(type(tr.compile(lambda: None))):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, **keywords)
            made.append(self)

    text = tr.data.Text.of("the quick brown fox jumps over the lazy dog. " * 30, 5)
    model = experiment.build(text, hidden=8, layers=1, nonlinearity="tanh", init="default", seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "compile", Counted)
        experiment.train(model, text, steps=5, updates=range(12), seed=0)
    (update,) = made
    assert len(update.programs) == 1 and update.program.runs == 10
