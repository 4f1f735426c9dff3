"""What the code of a function names: variables, attributes, modules. Instructions are read, and none is run."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

# what looks up an attribute that a string names
_BY_NAME = frozenset(
    {"getattr", "hasattr", "vars", "__dict__", "attrgetter", "methodcaller", "__getattribute__"}
)  # look up what a string names


def names_in(constant: Any) -> list[str]:
    """The names that a constant of a code is, or is made of: "a", "a.b", ("a", "b")."""
    if type(constant) in (tuple, frozenset):
        return [part for c in constant for part in names_in(c)]
    parts = constant.split(".") if isinstance(constant, str) else []
    return parts if all(map(str.isidentifier, parts)) else []


class Reading(NamedTuple):
    """What a code names, that of functions defined in it apart.

    variables  global ones
    names      of attributes that it reads, and its constants that may be such: getattr(x, "name")
    stored     attributes that it sets or deletes
    asked      names for which it asks whether they are there
    computed   of each look-up by a name that is computed, whether it is one of the first argument's attributes
    imports    (module, level)"""

    variables: set[str]
    names: set[str]
    stored: set[str]
    asked: set[str]
    computed: set[bool]
    imports: list[tuple[str, int]]


@functools.lru_cache(1024)
def reading(code: types.CodeType) -> Reading:
    """What a code names."""
    steps = list(dis.get_instructions(code))
    strings = {name for c in code.co_consts for name in names_in(c)}
    stored = {i.argval for i in steps if i.opname in ("STORE_ATTR", "DELETE_ATTR")}
    read = {i.argval for i in steps if i.opname.startswith(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER", "IMPORT_FROM"))}
    variables = {i.argval for i in steps if i.opname.endswith(("_GLOBAL", "LOAD_NAME"))}
    by_name = [n for n, i in enumerate(steps) if i.argval in _BY_NAME and i.opname.startswith("LOAD")]
    computed = {
        bool(code.co_argcount)
        and n + 1 < len(steps)
        and "FAST" in steps[n + 1].opname
        and steps[n + 1].argval == code.co_varnames[0]
        for n in by_name
        if not _has_constant_name(steps[n:])
    }
    imports = [(i.argval, steps[n - 2].argval) for n, i in enumerate(steps) if i.opname == "IMPORT_NAME"]
    return Reading(
        variables | (strings if "globals" in variables else set()),
        read | strings,
        stored,
        (strings if by_name else set()) | (read if "AttributeError" in variables else set()),
        computed,
        imports,
    )


def _has_constant_name(steps: list[dis.Instruction]) -> bool:
    """Whether instructions that begin with one that loads getattr or its like go on with a name that is a constant."""
    if steps[0].argval not in ("getattr", "hasattr", "attrgetter", "methodcaller"):
        return False
    after = 1 if steps[0].argval in ("attrgetter", "methodcaller") else 2  # the argument that is the name
    depth, constant = 0, False
    for i in steps[1:]:
        depth += dis.stack_effect(i.opcode, i.arg if i.opcode >= dis.HAVE_ARGUMENT else None, jump=False)
        if constant and depth <= after:  # what takes the constant is the call, or something that makes a name of it
            return "CALL" in i.opname
        constant = constant or (depth == after and i.opname == "LOAD_CONST")
        if depth < 0 or depth == after and not constant:
            return False
    return False


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and those of the functions defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)
