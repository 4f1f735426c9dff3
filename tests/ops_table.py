"""The table of public ops in docs/OPS.md, made of the functions themselves: `python tests/ops_table.py` writes it anew."""

import inspect
import pathlib
import re

import tinygrad_rnn as tr

PAGE = pathlib.Path(__file__).parent.parent / "docs/OPS.md"
BEGIN, END = "<!-- table: python tests/ops_table.py -->\n", "<!-- end of table -->\n"


def table():
    """A row for each public function: its name and arguments, what numpy and Tensor call it, and what it does."""
    numpys = {ours: theirs for theirs, ours in tr.tensor.NUMPY_FUNCTIONS.items()}
    ufuncs = {op.name: ufunc for ufunc, op in tr.tensor._UFUNCS.items()}
    rows = ["| function | numpy | method | what it does |", "|---|---|---|---|"]
    for name in sorted(tr.functions.__all__):
        f = getattr(tr.functions, name)
        parameters = inspect.signature(f).parameters.values()
        signature = ", ".join(
            str(p.replace(annotation=p.empty, default=p.empty)) + ("" if p.default is p.empty else f"={p.default!r}")
            for p in parameters
        )
        theirs = numpys.get(f) or ufuncs.get(name)
        where = (
            f"`{'linalg.' if theirs is getattr(tr.tensor.np.linalg, name, None) else ''}{theirs.__name__}`" if theirs else ""
        )
        method = f"`.{name}`" if name in vars(tr.Tensor) else ""
        first = inspect.getdoc(f).split("\n\n")[0].replace("\n", " ")
        does = re.split(r"(?<=\.) (?=[A-Z])", first)[0].rstrip(".:").replace("|", "\\|")
        rows.append(f"| `{name}({signature})` | {where} | {method} | {does} |")
    return "\n".join(rows) + "\n"


def page():
    """The page with the table as it should be."""
    before, rest = PAGE.read_text().split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page())
