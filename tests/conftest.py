"""Hypothesis profiles: quick by default; HYPOTHESIS_PROFILE=thorough draws twenty times as many examples."""

import os

import pytest
from arrays import guarded
from hypothesis import HealthCheck, settings

from tinygrad_rnn.backends import build_info, native

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}
settings.register_profile("quick", max_examples=100, **COMMON)
settings.register_profile("thorough", max_examples=2000, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(params=build_info()["isa_supported"])
def isa(request):
    """Every instruction set that this machine runs, one after the other."""
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
