"""Every sentence of the command against plain numpy: its numbers are computed again, without the engine, and compared."""

import contextlib
import io
import json
import re
from dataclasses import dataclass

import char_oracle as oracle
import numpy as np
import pytest

from tinygrad_rnn.cli import main
from tinygrad_rnn.data import Text
from tinygrad_rnn.experiment import Setting
from tinygrad_rnn.experiment.remedies import known_remedies
from tinygrad_rnn.report import picture

pytest.importorskip("matplotlib")

TEXT = "to be, or not to be: that is the question. naïve café. " * 30
HIDDEN, STEPS, UPDATES, NETS, DRAWS, BATCH = 16, 30, 5, 3, 8, 32
LOOK = 1  # seed of the windows looked at: that of the first net, plus 1
NEAR = STEPS // 5


# ---- what the command said


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """(printed, numbers, figure) of a run with tanh."""
    return run_of(tmp_path_factory.mktemp("run"), "tanh")


def run_of(folder, phi):
    figures, draw = [], picture.draw
    (folder / "text").write_text(TEXT, encoding="utf-8")
    options = {"hidden": HIDDEN, "steps": STEPS, "updates": UPDATES, "nets": NETS, "draws": DRAWS, "nonlinearity": phi}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture, "draw", lambda run: figures.append(draw(run)) or figures[0])
        assert (
            main([*arguments, "--text", str(folder / "text"), "--out", str(folder / "p.png"), "--json", str(folder / "n")]) == 0
        )
    return printed.getvalue(), json.loads((folder / "n").read_text()), figures[0]


# ---- the same, computed here


def windows(rng):
    alphabet = sorted(set(TEXT))
    codes = np.array([alphabet.index(c) for c in TEXT])
    starts = rng.integers(0, len(codes) - STEPS, BATCH)
    rows = np.stack([codes[s : s + STEPS + 1] for s in starts], axis=1)
    return rows[:-1], rows[1:]


def estimate(values):
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))


def bootstrap(statistic, *samples):
    rng = np.random.default_rng(99)
    found = [statistic(*(s[rng.integers(len(s), size=len(s))] for s in samples)) for _ in range(3000)]
    return statistic(*samples), np.std(found, ddof=1)


def power(draws):
    half, end = (STEPS - 1) // 2, STEPS - 1
    return bootstrap(lambda x: np.log(x[:, end].std() / x[:, half].std()) / np.log(end / half), draws)


def controls(net, rng, draws, fresh):
    """(untied, tied): log gains (draws, steps) of nets of other weights, drawn in the order in which the command draws."""
    shapes, bound = [p.shape for p in net.cells[0]], 1 / np.sqrt(HIDDEN)

    def cell():
        if fresh:
            return [rng.uniform(-bound, bound, shape).astype(np.float32).astype(np.float64) for shape in shapes]
        return [rng.permutation(p.reshape(-1)).reshape(p.shape) for p in net.cells[0]]

    def gain(cells):
        return oracle.look_back(net.with_cells(cells), *windows(np.random.default_rng(LOOK)))["log_gain"]

    untied = np.stack([gain([cell() for _ in range(STEPS)]) for _ in range(draws)])
    return untied, np.stack([gain([cell()] * STEPS) for _ in range(draws)])


@dataclass
class Followed:
    """A net before and after training, as the oracle trains it."""

    net: oracle.Net
    before: dict
    after: dict
    loss: float

    @classmethod
    def of(cls, net, seed):
        rng, look = np.random.default_rng(seed), windows(np.random.default_rng(LOOK))
        after, losses = oracle.trained(net, [windows(rng) for _ in range(UPDATES)])
        return cls(after, oracle.look_back(net, *look), oracle.look_back(after, *look), np.mean(losses[-20:]))

    @property
    def nats(self):
        return self.before["log_gain"][-1], self.after["log_gain"][-1]

    @property
    def near(self):
        return self.after["shares"][:NEAR].sum()


class Truth:
    """Everything the sentences rest on. The initial weights are those of the package; nothing else is."""

    def __init__(self, phi="tanh"):
        self.setting = Setting(Text.of(TEXT, STEPS), HIDDEN, 1, phi, "default", STEPS, UPDATES, LOOK)
        self.initial = [self.setting.build(seed).state_dict() for seed in range(NETS)]
        self.nets = [Followed.of(oracle.Net.of(state, STEPS, phi), seed) for seed, state in enumerate(self.initial)]
        rng = np.random.default_rng(LOOK)
        windows(rng)
        self.fresh = controls(oracle.Net.of(self.initial[0], STEPS, phi), rng, DRAWS, True)
        self.shuffled = []
        for seed, followed in enumerate(self.nets):
            rng = np.random.default_rng([LOOK, seed] if seed else LOOK)
            if not seed:
                windows(rng)
            self.shuffled.append(controls(followed.net, rng, DRAWS // 4 if seed else DRAWS, False))
        self.remedies = {}
        for remedy in known_remedies(self.setting)[:3]:
            own = "relu" if "relu" in remedy.name else phi
            leak = 0.1 if "leaky" in remedy.name else 1.0
            states = [self.setting.build(seed, remedy.make).state_dict() for seed in range(NETS)]
            built = [oracle.Net.of(state, STEPS, own, leak) for state in states]
            self.remedies[remedy.name] = [Followed.of(net, seed) for seed, net in enumerate(built)]

    # the numbers of each sentence, by section and name; a pair is a value and its standard error

    def findings(self, look, draws):
        untied, tied = (d[:, -1] for d in draws)
        powers, plain = [power(d) for d in draws], self.setting.nonlinearity == "identity"
        return {
            "split": {
                "steps": STEPS - 1,
                "nats": abs(look["log_gain"][-1]),
                "saturation": look["saturation"].sum(),
                "weights": look["weights"].sum(),
            },
            "sum": {"near_terms": NEAR, "near": look["shares"][:NEAR].sum(), "last": STEPS - 1},
            "depth": {"paths": "1", "longest": STEPS + 1},
            # five ops a step: the input's index, two products, their sum, the activation, where there is one
            "identity": {
                "nodes": (5 - plain) * STEPS + 7,
                "edges": (11 - plain) * STEPS + 7,
                "parameters": 7,
                "values": 0,
                "gradients": 0,
            },
            "untied": {"draws": DRAWS, "median": bootstrap(np.median, untied)},
            "tied": {
                "draws": DRAWS,
                "median": bootstrap(np.median, tied),
                "gap": bootstrap(lambda a, b: np.median(a) - np.median(b), tied, untied),
            },
            "spread": {
                "untied": untied.std(ddof=1),
                "tied": tied.std(ddof=1),
                "half": (STEPS - 1) // 2,
                "steps": STEPS - 1,
                "untied_power": powers[0],
                "tied_power": powers[1],
            },
        }

    def medians(self):
        return np.array([[np.median(d[:, -1]) for d in draws] for draws in self.shuffled])

    def sections(self):
        before, after = np.array([n.nats for n in self.nets]).T
        untied, tied = self.medians().T
        kept, most = np.array(estimate(after - untied)), np.abs(tied - untied).max()
        moves = {"before": estimate(before), "after": estimate(after)}
        fresh = self.findings(self.nets[0].before, self.fresh)
        answers = {
            "depth": {"steps": STEPS},
            "same": {"longest": STEPS + 1},
            "hidden": {
                "near": estimate([n.near for n in self.nets]),
                "near_terms": NEAR,
                "lag": STEPS - 1,
                "fall": (-moves["after"][0], moves["after"][1]),
            },
            "typical": {
                "tied": fresh["tied"]["median"],
                "untied": fresh["untied"]["median"],
                "draws": DRAWS,
                "gap": fresh["tied"]["gap"],
            },
            "luck": {
                "tied": fresh["spread"]["tied_power"],
                "untied": fresh["spread"]["untied_power"],
                "tied_sd": fresh["spread"]["tied"],
                "untied_sd": fresh["spread"]["untied"],
            },
            "training": moves,
            # of both signs here, so that nothing is said of the order of the entries
            "structure": {"kept": (-kept[0], kept[1])},
            **{name: self.remedy(nets) for name, nets in self.remedies.items()},
        }
        return {
            "before": fresh,
            "after": self.findings(self.nets[0].after, self.shuffled[0]),
            "nets": {
                "columns": {},
                "training": moves,
                "loss": {"loss": estimate([n.loss for n in self.nets])},
                "structure": {"kept": (abs(kept[0]), kept[1]), "most": most},
            },
            "remedies": {"chosen": {"known": 4}, "codes": {}},
            "answer": answers,
        }

    def remedy(self, nets):
        before, after = np.array([n.nats for n in nets]).T
        return {
            "before": estimate(before),
            "after": estimate(after),
            "loss": estimate([n.loss for n in nets]),
            "nearer": estimate([abs(p.nats[1]) - abs(n.nats[1]) for n, p in zip(nets, self.nets, strict=True)]),
            "lower": estimate([p.loss - n.loss for n, p in zip(nets, self.nets, strict=True)]),
        }


@pytest.fixture(scope="module")
def truth():
    return Truth()


def statements(numbers):
    """What was said, by section and name."""
    return {"before": numbers["before"]["said"], "after": numbers["after"]["said"], **numbers["said"]}


def agree(found, expected, what):
    if isinstance(expected, tuple):
        assert found["value"] == pytest.approx(expected[0], rel=3e-3, abs=3e-3), what
        assert found["standard_error"] == pytest.approx(expected[1], rel=0.3, abs=3e-3), what
    elif isinstance(expected, str):
        assert found == expected, what
    else:
        assert found == pytest.approx(expected, rel=3e-3, abs=3e-3), what


def test_every_number_of_every_sentence_is_true(said, truth):
    found, expected = statements(said[1]), truth.sections()
    assert found.keys() == expected.keys()
    for section, sentences in expected.items():
        # the words about a difference depend on the numbers; see below
        assert found[section].keys() == sentences.keys(), section
        for name, numbers in sentences.items():
            known = found[section][name]["numbers"]
            missing = known.keys() - numbers.keys() - {"horizon"}
            assert not missing, f"{section}, {name}: nothing is computed here for {missing}"
            for number, value in numbers.items():
                agree(known[number], value, f"{section}, {name}: {number}")


@pytest.mark.parametrize("phi", ["relu", "identity", "sigmoid"])
def test_the_numbers_of_other_nets_are_true(phi, tmp_path):
    """Which sentences there are depends on what is found; those that there are must be true."""
    found, expected = statements(run_of(tmp_path, phi)[1]), Truth(phi).sections()
    compared = 0
    for section, sentences in found.items():
        for name in sentences.keys() & expected[section].keys():
            known = expected[section][name]
            for number, value in sentences[name]["numbers"].items():
                if number in known and (section, name) != ("answer", "structure"):  # its sign depends on the words
                    agree(value, known[number], f"{section}, {name}: {number}")
                    compared += 1
    assert compared > 50


def test_every_sentence_is_printed_with_its_numbers(said):
    printed, numbers, _ = said
    flat = " ".join(printed.split())
    for section, sentences in statements(numbers).items():
        for name, sentence in sentences.items():
            assert sentence["text"] in flat, (section, name)
            shown = forms(sentence["numbers"]) | {"0", "0.5", "1"}  # said of no run: "which is 0", the powers of luck
            if name in ("columns", "codes", "split") or section in ("answer", "remedies"):
                shown |= {"4", "5", "0.1", "3"}  # columns of a table, the leak, the number of nets
            for token in re.findall(r"[-+]?\d[\d,]*(?:\.\d+)?%?", sentence["text"]):
                assert token.rstrip(",") in shown, f"{section}, {name}: where does {token} come from? {sentence}"


def forms(numbers):
    """Every way in which numbers are written."""
    flat = []
    for x in numbers.values():
        flat += list(x.values()) if isinstance(x, dict) else [x]
    out = set()
    for x in flat:
        if isinstance(x, str):
            out.add(x)
        elif x is not None:
            out |= {format(x, spec) for spec in ("+.2f", ".2f", ".3f", ".1%", "g")} | {f"{int(x):,}", f"{abs(x):.2f}"}
    return out


def test_the_horizon_is_where_float32_stops_to_change(said, truth):
    look = oracle.look_back(oracle.Net.of(truth.initial[0], STEPS, dtype=np.float32), *windows(np.random.default_rng(LOOK)))
    running, last = np.zeros((HIDDEN, HIDDEN), np.float32), -1
    for lag, term in enumerate(look["terms"].astype(np.float32)):
        if (running + term != running).any():
            last = lag
        running = running + term
    found = said[1]["before"]["terms"]["horizon"]
    assert abs(found - last) <= 1
    assert f"Leaving out all terms beyond lag {found} changes no entry of dE/dW." in " ".join(said[0].split())


def test_the_table_is_true(said, truth):
    """Relative sizes by lag, the median and the band of the untied MLPs, sizes of terms and their shares."""
    lines = said[0].split("Before training")[1].splitlines()
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines if re.match(r"\s+\d+ ", line)][:9]
    assert [int(row[0]) for row in rows] == [0, 1, 2, 3, 5, 8, 12, 20, 29]
    look, untied = truth.nets[0].before, np.sort(truth.fresh[0], axis=0)
    for row in rows:
        lag = int(row[0])
        low, high = (float(x) for x in row[3].strip("()").split(" .. "))
        expected = [look["log_gain"][lag], *(untied[round(q * (DRAWS - 1)), lag] for q in (0.5, 0.05, 0.95))]
        np.testing.assert_allclose([float(row[1]), float(row[2]), low, high], np.exp(expected), rtol=0.06)
        if row[4] != "-":
            assert float(row[4]) == pytest.approx(look["sizes"][lag], rel=0.06)
            assert float(row[5].rstrip("%")) == pytest.approx(100 * look["shares"][lag], abs=0.06)


def test_the_first_line_is_true(said, truth):
    characters, different = len(TEXT), len(set(TEXT))
    parameters = sum(x.size for x in truth.initial[0].values())
    assert said[0].startswith(
        f"{characters:,} characters, {different} different. tanh RNN of 1 x {HIDDEN} units, {parameters:,} par"
    )
    assert said[1]["text"] == {"characters": characters, "different": different}
    assert said[1]["parameters"] == parameters


def test_the_tables_of_nets_are_true(said, truth):
    flat, numbers = said[:2]
    for seed, (followed, medians) in enumerate(zip(truth.nets, truth.medians(), strict=True)):
        (row,) = re.findall(rf"^   {seed} +(\S+) +(\S+) +(\S+) +(\S+) +(\S+)$", flat, re.M)
        expected = [*followed.nats, *medians, followed.loss]
        np.testing.assert_allclose([float(x) for x in row], expected, atol=0.02)
        found = [numbers["nets"][seed][name] for name in ("before", "after", "untied_median", "tied_median", "loss")]
        np.testing.assert_allclose(found, expected, atol=3e-3)
    for name, nets in {"plain RNN": truth.nets, **truth.remedies}.items():
        (row,) = re.findall(rf"^   {name} +(\S+) ± (\S+) +(\S+) ± (\S+) +(\S+) ± (\S+)$", flat, re.M)
        expected = [
            *estimate([n.nats[0] for n in nets]),
            *estimate([n.nats[1] for n in nets]),
            *estimate([n.loss for n in nets]),
        ]
        np.testing.assert_allclose([float(x) for x in row], expected, atol=0.02)
        means = (numbers if name == "plain RNN" else numbers["remedies"][name])["means"]
        found = [means[what][part] for what in ("before", "after", "loss") for part in ("value", "standard_error")]
        np.testing.assert_allclose(found, expected, atol=3e-3)


def test_the_remedies_are_those_that_leave_most_at_first(said, truth):
    plain = abs(truth.nets[0].nats[0])
    distance = {name: abs(nets[0].nats[0]) for name, nets in truth.remedies.items()}
    gru = known_remedies(truth.setting)[3]
    state = truth.setting.build(0, gru.make).state_dict()
    distance[gru.name] = abs(oracle.gated_gain(state, *windows(np.random.default_rng(LOOK))))
    best = sorted((name for name, d in distance.items() if d < plain), key=distance.get)[:3]
    assert set(said[1]["remedies"]) == set(best)


def test_the_picture_is_true(said, truth):
    """Its message, the titles of its panels, and the ends of its curves."""
    nats = [abs(x) for x in truth.nets[0].nats]
    message = " ".join(said[2].get_suptitle().split())
    assert f"loses {nats[0]:.1f} nats before training and {nats[1]:.1f} nats after it." in message
    assert f"{STEPS} layers deep" in message
    titles = [" ".join(ax.get_title(loc="left").split()) for ax in said[2].axes]
    look = [truth.nets[0].before, truth.nets[0].after]
    spread = [d[:, -1].std(ddof=1) for d in truth.fresh]
    untied, tied = truth.medians()[0]
    shuffling, untying = untied - truth.nets[0].nats[1], untied - tied
    for title, expected in zip(titles, [
        *(f"{f['log_gain'][-1]:+.1f} nats (saturation {f['saturation'].sum():+.1f}, weights {f['weights'].sum():+.1f})" for f in look),
        f"standard deviation {spread[1]:.2f} nats tied, {spread[0]:.2f} untied",
        f"Shuffling the trained entries: {shuffling:+.1f} nats. Untying the layers then: {untying:+.2f}",
        *(f"The {NEAR} terms nearest to E make {f['shares'][:NEAR].sum():.1%} of dE/dW" for f in look),
    ], strict=True):  # fmt: skip
        assert expected in title
    for ax, f in zip(said[2].axes, look, strict=False):
        ends = [line.get_ydata()[-1] for line in ax.get_lines()]
        assert np.isclose(ends, f["log_gain"][-1] / np.log(10), atol=1e-3).sum() >= 2  # the RNN, and unrolled


def test_sentences_are_short(said):
    for sentences in statements(said[1]).values():
        for sentence in sentences.values():
            for one in re.split(r"(?<=[.?!]) ", sentence["text"]):
                words = [w for w in one.split() if w != "±"]
                assert len(words) <= 25, one
