"""Hypothesis profiles: quick by default; HYPOTHESIS_PROFILE=thorough draws twenty times as many examples."""

import os

import pytest
from arrays import guarded
from hypothesis import HealthCheck, settings

from tinygrad_rnn.backends import build_info, missing, native

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}
settings.register_profile("quick", max_examples=100, **COMMON)
settings.register_profile("thorough", max_examples=2000, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_runtest_setup(item):
    """Tests of the C kernels are skipped where there are none: those that name them by a parameter, and those that are marked."""
    case = item.callspec.id if hasattr(item, "callspec") else ""
    about = item.get_closest_marker("kernels") or "native" in case.split("-") or "sentinels" in item.fixturenames
    if missing and about:
        pytest.skip(f"tests the C kernels: {missing}")


@pytest.fixture(params=build_info()["isa_supported"] or ["reference"])
def isa(request):
    """Every instruction set that this machine runs, one after the other; without the C kernels, the reference backend."""
    if missing:
        yield request.param
        return
    before = native.isa()
    native.set_isa(request.param)
    yield request.param
    native.set_isa(before)


@pytest.fixture
def sentinels():
    """Every array that a kernel makes lies between sentinels, off the alignment of vectors, and is checked at the end."""
    made = []

    def allocate(shape, dtype):
        array, intact = guarded(shape, dtype)
        made.append((array, intact))
        return array

    native.set_allocator(allocate)
    yield made
    native.set_allocator(None)
    assert made
    for array, intact in made:
        assert intact(), f"a kernel wrote beside an array of shape {array.shape}"
