"""RowDivergence, whose statistics over rows are exact whatever the chunks."""

import copy
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from scipy.special import log_softmax

import kullback
from kullback.divergence import kl_divergence
from kullback.streaming import RowDivergence


def rows(n, seed=0, size=7):
    """Return random pairs of distributions."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(size), n), rng.dirichlet(np.ones(size), n)


def exact_statistics(values, weights=None):
    """Return mean and standard error, computed in exact fractions."""
    d = [Fraction(float(v)) for v in values]
    w = [Fraction(1)] * len(d) if weights is None else [Fraction(float(v)) for v in weights]
    n, total = len(d), sum(w)
    mean = sum(a * b for a, b in zip(w, d, strict=True)) / total
    spread = sum((a * (b - mean)) ** 2 for a, b in zip(w, d, strict=True)) * Fraction(n, n - 1)
    return float(mean), math.sqrt(spread / total**2)


def test_mean_and_standard_error_are_those_of_exact_arithmetic():
    """The mean is correctly rounded, and the error is right to one unit in the last place."""
    p, q = rows(257)
    values = kl_divergence(p, q)
    mean, error = exact_statistics(values)
    found = RowDivergence(("kl",)).update(p, q).result().kl
    assert found.mean == mean
    assert found.standard_error == pytest.approx(error, rel=2**-51)
    assert found.n_rows == 257
    assert (found.min, found.max) == (values.min(), values.max())
    assert found.mean == math.fsum(values) / 257 or abs(found.mean / (math.fsum(values) / 257) - 1) < 2**-52


def test_weighted_statistics():
    """Weights give a ratio estimator; weight 0 leaves a row out; all weights 1 are no weights."""
    p, q = rows(100)
    weights = np.random.default_rng(1).uniform(0.1, 3, 100)
    mean, error = exact_statistics(kl_divergence(p, q), weights)
    found = RowDivergence().update(p, q, weights=weights).result().kl
    # each w d is rounded once, by a relative 2^-53
    assert found.mean == pytest.approx(mean, rel=2**-52)
    assert found.standard_error == pytest.approx(error, rel=1e-14)
    assert found.total_weight == pytest.approx(weights.sum(), rel=1e-15)
    weights[::2] = 0
    half = RowDivergence().update(p, q, weights=weights).result().kl
    assert half == RowDivergence().update(p[1::2], q[1::2], weights=weights[1::2]).result().kl
    ones = RowDivergence().update(p, q, weights=np.ones(100)).result().kl
    assert ones == RowDivergence().update(p, q).result().kl


def test_weights_that_start_late():
    """Rows before the first weights count with weight 1, on either side of a merge."""
    p, q = rows(40)
    weights = np.random.default_rng(2).uniform(0.5, 2, 20)
    whole = RowDivergence().update(p, q, weights=np.concatenate([np.ones(20), weights]))
    late = RowDivergence().update(p[:20], q[:20]).update(p[20:], q[20:], weights=weights)
    left, right = (
        RowDivergence().update(p[:20], q[:20]),
        RowDivergence().update(p[20:], q[20:], weights=weights),
    )
    assert whole == late == left + right == right + left


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_chunking_and_merging_change_no_bit(n_threads):
    """1,000 random merge trees over random chunks give one state, bit for bit."""
    p, q = rows(60)
    options = {"quantiles": (0.1, 0.5, 0.9), "groups": True, "n_threads": n_threads}
    rng = np.random.default_rng(3)
    group, weights = rng.integers(0, 4, 60), rng.uniform(0, 2, 60)
    whole = RowDivergence(("kl",), **options).update(p, q, weights=weights, group=group)
    for _ in range(1000 if n_threads == 1 else 20):
        order = rng.permutation(60)
        cuts = np.sort(rng.integers(0, 61, rng.integers(0, 6)))
        parts = [
            RowDivergence(("kl",), **options).update(p[i], q[i], weights=weights[i], group=group[i])
            for i in np.split(order, cuts)
        ]
        while len(parts) > 1:
            i = rng.integers(len(parts))
            left = parts.pop(i)
            parts[rng.integers(len(parts))].merge(left)
        assert parts[0] == whole
    assert repr(parts[0].result()) == repr(whole.result())


def test_infinite_and_not_a_number():
    """An infinite KL makes mean and max infinite and is reported; a NaN row is left out and reported."""
    p = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    q = np.array([[0.25, 0.75], [0.0, 1.0], [np.nan, 0.5]])
    found = RowDivergence(normalize=False, quantiles=(0, 1)).update(p, q).result().kl
    assert (found.n_rows, found.n_infinite, found.n_nonfinite) == (2, 1, 1)
    assert found.mean == found.max == math.inf
    assert found.mean_finite == found.min == kl_divergence(p[0], q[0])
    assert math.isnan(found.standard_error)
    assert found.quantiles[1] == math.inf
    only = RowDivergence().update(p[1:2], q[1:2]).result().kl
    assert (only.min, only.max, only.mean) == (math.inf,) * 3
    assert math.isnan(only.mean_finite)


def test_empty_single_and_zero_rows():
    """No rows give NaN, one row gives a mean without an error, and equal rows give exact zeros."""
    empty = RowDivergence().result().kl
    assert (empty.n_rows, empty.total_weight) == (0, 0)
    assert all(math.isnan(v) for v in (empty.mean, empty.standard_error, empty.min, empty.zero_share))
    p, _ = rows(3)
    one = RowDivergence().update(p[0], p[0]).result().kl
    assert (one.n_rows, one.n_zero, one.mean, one.zero_share) == (1, 1, 0.0, 1.0)
    assert math.isnan(one.standard_error)
    three = RowDivergence().update(p.reshape(3, 1, 7), p.reshape(3, 1, 7)).result().kl
    assert (three.n_rows, three.mean, three.standard_error) == (3, 0, 0)
    assert RowDivergence().update(p[:0], p[:0]) == RowDivergence()


def test_groups_add_up_to_the_whole():
    """Groups hold what separate accumulators would; the total is that of all rows."""
    p, q = rows(50)
    names = np.array(["b", "a", "long name"])[np.arange(50) % 3]
    found = RowDivergence(groups=True).update(p, q, group=names).result()
    assert list(found.groups) == ["a", "b", "long name"]
    assert found["kl"] == RowDivergence().update(p, q).result().kl
    for name in found.groups:
        assert found.groups[name]["kl"] == RowDivergence().update(p[names == name], q[names == name]).result().kl
    assert RowDivergence(groups=True).result().kl.n_rows == 0


@pytest.mark.parametrize("size", [1, 2, 100, 5000])
def test_quantiles_are_exact_in_rank_and_near_in_value(size):
    """Each quantile is within a relative 2^-11 of NumPy's inverted_cdf."""
    probabilities = (0, 0.001, 0.1, 0.25, 0.5, 0.75, 0.999, 1)
    p, q = rows(size)
    found = RowDivergence(quantiles=probabilities).update(p, q).result().kl
    expected = np.quantile(kl_divergence(p, q), probabilities, method="inverted_cdf")
    np.testing.assert_allclose(list(found.quantiles.values()), expected, rtol=2**-11)


def test_quantile_of_zeros_is_zero():
    """Zero has a bucket of its own."""
    p, q = rows(10)
    found = RowDivergence(quantiles=(0.5, 0.95)).update(p, p).update(q[:1], p[:1]).result().kl
    assert found.quantiles[0.5] == 0
    assert found.quantiles[0.95] > 0


def test_states_files_and_pickles_come_back(tmp_path):
    """A round trip through each form gives an equal accumulator that goes on working."""
    p, q = rows(30)
    acc = RowDivergence(quantiles=(0.5,), groups=True).update(p, q, group=np.arange(30) % 2, weights=np.arange(30))
    acc.save(tmp_path / "acc.npz")
    twins = (
        RowDivergence.from_state(acc.to_state()), RowDivergence.load(tmp_path / "acc.npz"),
        pickle.loads(pickle.dumps(acc)), copy.deepcopy(acc), acc.copy(),
    )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["acc.npz"]
    for twin in twins:
        assert twin == acc
        twin.update(p, q, group=np.ones(30, int))
        assert twin != acc
    assert sum(twins[1:], start=twins[0]).result().kl.n_rows == 5 * 59


def test_reset_and_operators():
    """Reset forgets data and keeps the configuration; + leaves both sides as they are, += changes the left one."""
    p, q = rows(10)
    a, b = RowDivergence().update(p, q), RowDivergence().update(q, p)
    before = a.copy()
    both = a + b
    assert a == before
    a += b
    assert a == both
    assert sum([before, b]) == both
    assert a.reset() == RowDivergence()
    assert (both.merge(both)).result().kl.n_rows == 40
    with pytest.raises(TypeError):
        a + 1


def test_merge_refuses_and_leaves_untouched():
    """Another class, configuration or kind of label is refused before anything changes."""
    p, q = rows(10)
    acc = RowDivergence(groups=True).update(p, q, group=1)
    before = acc.copy()
    with pytest.raises(TypeError, match="RowDivergence"):
        acc.merge(3)
    with pytest.raises(ValueError, match="base"):
        acc.merge(RowDivergence(groups=True, base=2))
    with pytest.raises(TypeError, match="labels"):
        acc.merge(RowDivergence(groups=True).update(p, q, group="a"))
    with pytest.raises(TypeError, match="all integers"):
        acc.update(p, q, group="a")
    with pytest.raises(ValueError, match="group must be given"):
        acc.update(p, q)
    with pytest.raises(ValueError, match="weights"):
        acc.update(p, q, weights=-np.ones(10), group=2)
    with pytest.raises(ValueError, match="p"):
        acc.update(-p, q, group=2)
    assert acc == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"measures": "kl"}, TypeError, "sequence of names"),
        ({"measures": ()}, ValueError, "one or more"),
        ({"measures": ("nonsense",)}, ValueError, "nonsense"),
        ({"quantiles": (2,)}, ValueError, r"\[0, 1\]"),
        ({"groups": 1}, TypeError, "True or False"),
        ({"unknown": 1}, TypeError, "unknown"),
    ],
)
def test_bad_options(options, error, message):
    """Options are checked when an accumulator is made, with a message that names them."""
    with pytest.raises(error, match=message):
        RowDivergence(**options)


def test_result_is_readable():
    """The repr names measures and counts, and to_dict returns plain data."""
    p, q = rows(10)
    found = RowDivergence(quantiles=(0.5,), groups=True).update(p, q, group=0).result()
    assert "kl:" in repr(found)
    assert "10 rows" in repr(found)
    assert found.to_dict()["groups"][0]["kl"]["n_rows"] == 10
    with pytest.raises(AttributeError):
        found.nonsense  # noqa: B018


def test_logits_labels_and_many_measures():
    """All measures of compare come at once from logits, and labels reach their rows in any chunks."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 9)).astype(np.float32)
    labels = rng.integers(0, 9, 30)
    names = (
        "log_loss",
        "kl",
        "reverse_kl",
        "js",
        "entropy_p",
        "top1_agreement",
        "total_variation",
        "log_loss_p",
    )
    acc = RowDivergence(names, from_logits=True)
    for i in np.array_split(np.arange(30), 4):
        acc.update(a[i], b[i], labels[i])
    acc.update(a[0], b[0], labels[0])
    found, again = acc.result(), np.append(np.arange(30), 0)
    for name, values in kullback.divergence.compare(a[again], b[again], names[1:-1], from_logits=True).items():
        assert found[name].mean == pytest.approx(math.fsum(values) / 31, rel=2**-51)
    for name, side in (("log_loss", b), ("log_loss_p", a)):
        log_p = log_softmax(side[again].astype(float), axis=-1)
        expected = -log_p[np.arange(31), labels[again]].mean()
        assert found[name].mean == pytest.approx(expected, rel=1e-7)
    with pytest.raises(ValueError, match="labels must be given"):
        acc.update(a, b)
    whole = RowDivergence(names, from_logits=True).update(a, b, labels).result()
    for batch_rows in (1, 7, 30):
        assert whole == kullback.evaluate(
            a, b, measures=names, labels=labels, from_logits=True, batch_rows=batch_rows, progress=False
        )


@pytest.mark.parametrize("name", ["js", "total_variation"])
def test_chunking_of_measures_that_sweep_logits_twice(name):
    """The same bits for any chunks need the same bits of a row in any batch."""
    a, b = np.random.default_rng(0).normal(size=(2, 30, 9)).astype(np.float32)
    whole = RowDivergence((name,), from_logits=True).update(a, b)
    chunks = RowDivergence((name,), from_logits=True)
    for i in range(0, 30, 7):
        chunks.update(a[i : i + 7], b[i : i + 7])
    assert chunks == whole.update(a[:0], b[:0])


def test_quantiles_lie_between_the_extremes():
    """The middle of a bucket may lie beyond all of its values; with infinite rows the upper bound is infinite."""
    p = np.random.default_rng(0).dirichlet(np.ones(5), 200)
    probabilities = (0.0, 0.01, 0.5, 0.99, 1.0)
    for q in (p, p[::-1], p[[0]].repeat(200, axis=0)):
        accumulator = RowDivergence(("kl", "top1_agreement", "entropy_p"), quantiles=probabilities)
        for statistics in accumulator.update(p, q).result().measures.values():
            assert all(statistics.min <= value <= statistics.max for value in statistics.quantiles.values())
    same = RowDivergence(("top1_agreement", "entropy_p"), quantiles=(0.5,)).update(p[:1], p[:1]).result()
    assert same.top1_agreement.quantiles[0.5] == 1
    assert same.entropy_p.quantiles[0.5] == same.entropy_p.min == same.entropy_p.max
    q = p.copy()
    q[:150, 0] = 0
    infinite = RowDivergence(("kl",), quantiles=probabilities, normalize=True).update(p, q).result().kl
    assert infinite.quantiles[0.99] == infinite.max == np.inf
