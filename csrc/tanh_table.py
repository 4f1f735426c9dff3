"""Computes tanh_table.h: `python csrc/tanh_table.py` writes it anew, in some seconds. Needs mpmath.

Around each c = i/4 with i = 0..31, for |d| <= 1/8, one polynomial serves y = tanh(c + d) and w = 1 - y:

    y = y0 + d Q(d),  w = w0 - d Q(d),  y0 and w0 being tanh(c) and 1 - tanh(c), each rounded, and Q of degree 5.

Q is near minimax in the larger of the errors of y and w, in units in the last place, what y0 and w0 lack included: weighted
least squares at Chebyshev points, the weights raised again and again where the error is large (Lawson 1961). Each coefficient
is rounded before the next are fitted."""

import pathlib

import numpy as np
from mpmath import cos, exp, lu_solve, matrix, mp, mpf, pi, tanh

PAGE = pathlib.Path(__file__).with_name("tanh_table.h")
DEGREE, POINTS, ROUNDS = 6, 60, 12  # of d Q(d)

mp.dps = 50


def rounded(x: mpf) -> np.float32:
    return np.float32(np.longdouble(str(x)))


def weighted(rows: list, targets: list) -> mpf:
    """The first coefficient of the best combination of the columns of `rows`, by Lawson's weights."""
    weights = [mpf(1)] * len(rows)
    columns = range(len(rows[0]))
    for _ in range(ROUNDS):
        normal = matrix(len(columns), len(columns))
        right = matrix(len(columns), 1)
        for row, target, weight in zip(rows, targets, weights, strict=True):
            for i in columns:
                right[i] += weight * row[i] * target
                for j in columns:
                    normal[i, j] += weight * row[i] * row[j]
        solution = lu_solve(normal, right)
        errors = [abs(sum(row[i] * solution[i] for i in columns) - t) for row, t in zip(rows, targets, strict=True)]
        weights = [w * (e / max(errors) + mpf("0.05")) for w, e in zip(weights, errors, strict=True)]
        weights = [w * len(rows) / sum(weights) for w in weights]
    return solution[0]


def ulp(x: mpf) -> mpf:
    return mpf(2) ** (mp.floor(mp.log(x, 2)) - 23)


def column(i: int) -> tuple[list[np.float32], mpf]:
    """y0, w0, q0..q5 around i/4, and the largest error that they leave, in ulp."""
    c, most, least = mpf(i) / 4, mpf(1) / 8, -mpf(1) / 8 if i else mpf(0)
    y0, w0 = rounded(tanh(c)), rounded(2 / (exp(2 * c) + 1))
    at = [(least + most) / 2 + (most - least) / 2 * cos(pi * (2 * k + 1) / (2 * POINTS)) for k in range(POINTS)]
    # (d, what d Q(d) should be, the ulp of the result) for y and for w
    wanted = [(d, tanh(c + d) - mpf(float(y0)), ulp(tanh(c + d))) for d in at]
    wanted += [(d, mpf(float(w0)) - 2 / (exp(2 * (c + d)) + 1), ulp(2 / (exp(2 * (c + d)) + 1))) for d in at if i]
    powers = list(range(1, DEGREE + 1, 1 if i else 2))  # tanh is odd
    fixed = {} if i else {1: np.float32(1)}

    def left(d: mpf, target: mpf) -> mpf:
        return target - sum(mpf(float(q)) * d**p for p, q in fixed.items())

    for power in powers[len(fixed) :]:
        free = [p for p in powers if p not in fixed]
        rows = [[d**p / u for p in free] for d, _, u in wanted]
        fixed[power] = rounded(weighted(rows, [left(d, t) / u for d, t, u in wanted]))
    coefficients = [fixed.get(p, np.float32(0)) for p in range(1, DEGREE + 1)]
    return [y0, w0, *coefficients], max(abs(left(d, t)) / u for d, t, u in wanted)


def page() -> str:
    columns, errors = zip(*map(column, range(32)), strict=True)
    text = (
        "/* Written by tanh_table.py, which says what it is. Errors of y and w before they are rounded: up to "
        f"{float(max(errors)):.2f} ulp. */\n"
        f"static const float tanh_table[{DEGREE + 2}][32] __attribute__((aligned(64))) = {{\n"
    )
    for name, row in zip(("y0", "w0", *(f"q{p}" for p in range(DEGREE))), zip(*columns, strict=True), strict=True):
        numbers = [f"{np.format_float_scientific(x, unique=True, trim='0')}f" for x in row]
        text += f"    {{ /* {name} */\n"
        text += "".join("        " + ", ".join(numbers[n : n + 8]) + ",\n" for n in range(0, 32, 8))
        text += "    },\n"
    return text + "};\n"


if __name__ == "__main__":
    PAGE.write_text(page())
