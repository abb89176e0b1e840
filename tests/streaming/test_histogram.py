"""HistogramDivergence, which counts on both sides and gives divergences of the totals."""

import numpy as np
import pytest
from scipy.special import rel_entr
from scipy.stats import entropy

from kullback import _kernels
from kullback.streaming import HistogramDivergence
from kullback.streaming.histogram import MEASURES

EDGES = np.array([-1.0, -0.25, 0.0, 0.5, 2.0])


def values(n, n_features=3, seed=0, shift=0.0):
    """Draw normal values."""
    return np.random.default_rng(seed).normal(shift, 1, (n, n_features))


def naive_counts(x, edges):
    """Return the counts of each feature and bin by numpy.digitize."""
    n_bins = edges.shape[-1] + 1
    edges = np.broadcast_to(edges, (x.shape[1], n_bins - 1))
    return np.array(
        [np.bincount(np.digitize(column[~np.isnan(column)], e), minlength=n_bins)
         for column, e in zip(x.T, edges, strict=True)]
    )  # fmt: skip


def naive_measures(p, q):
    """Return every measure of two rows of counts by SciPy."""
    p, q = p / p.sum(), q / q.sum()
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        chi2 = np.where((p == 0) & (q == 0), 0, (p - q) ** 2 / q)
        # where one side alone is 0, both directions of KL add up to infinity
        return dict(
            kl=rel_entr(p, q).sum(), reverse_kl=rel_entr(q, p).sum(),
            js=(rel_entr(p, m) + rel_entr(q, m)).sum() / 2,
            psi=rel_entr(p, q).sum() + rel_entr(q, p).sum(),
            total_variation=np.abs(p - q).sum() / 2, chi2=chi2.sum(),
        )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "n_features", "n_edges"), [(0, 1, 1), (1, 2, 2), (7, 129, 3), (600, 3, 8), (257, 1, 49)])
def test_counting_kernel_equals_digitize(level, n_threads, dtype, n, n_features, n_edges):
    """Every value lands where numpy.digitize puts it, whatever the parts, ties and NaN included."""
    rng = np.random.default_rng(n)
    edges = np.sort(rng.choice(np.arange(-100, 100), n_edges, replace=False)).astype(dtype) / 4
    x = (rng.integers(-120, 120, (n, n_features)) / 4).astype(dtype)  # many of them lie on an edge
    x[rng.random(x.shape) < 0.05] = np.nan
    x[rng.random(x.shape) < 0.05] = np.inf
    x[rng.random(x.shape) < 0.05] = -np.inf
    width = (1 << n_edges.bit_length()) - 1
    padded = np.full((n_features, width), np.inf, dtype)
    padded[:, :n_edges] = edges
    counts = np.zeros((n_threads, n_features, n_edges + 2), np.int64)
    _kernels.load("histogram", level).count_bins(x, padded, n_edges, counts, n_threads)
    assert (counts.sum(0)[:, :-1] == naive_counts(x, edges)).all()
    assert (counts.sum(0)[:, -1] == np.isnan(x).sum(0)).all()


@pytest.mark.parametrize("n_bins", [1, 2, 7, 8, 9, 50, 257])
def test_comparing_kernel_equals_scipy(level, n_threads, n_bins):
    """All measures are right for rows with zeros on one side or on both, and for equal rows."""
    rng = np.random.default_rng(n_bins)
    p, q = rng.integers(0, 50, (3, n_bins)), rng.integers(0, 50, (9, n_bins))
    p[:, 0] += 1
    q[:, 0] += 1
    q[0], q[4, ::2], q[8] = p[0], q[4, ::2] * 0 + 3, 10**9
    codes = np.arange(len(MEASURES), dtype=np.intc)
    out, totals = np.empty((len(codes), 9)), np.empty(9, np.int64)
    kernel = _kernels.load("histogram", level)
    kernel.compare_counts(p, q, codes, 0.0, out, totals, n_threads)
    assert (out[:, 0] == 0).all()
    assert (totals == q.sum(1)).all()
    for code, name in enumerate(MEASURES):
        expected = [naive_measures(p[i % 3], q[i])[name] for i in range(9)]
        # n_bins terms of about 1 with errors of a few eps each cancel to the sum
        np.testing.assert_allclose(out[code], expected, rtol=1e-13, atol=1e-15)
        alone = np.empty((1, 9))
        kernel.compare_counts(p, q, codes[code : code + 1], 0.0, alone, totals, n_threads)
        assert (alone[0] == out[code]).all()  # a measure has the same bits in any company


def test_float32_values_meet_float64_edges():
    """A float32 value is compared with the float64 edge, not with its rounding."""
    edges = np.array([0.1, 1e300])
    x = np.array([np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(0)), 3e38], np.float32)
    acc = HistogramDivergence(edges=edges).update(x, x.astype(np.float64))
    assert (acc.counts_p == acc.counts_q).all()
    assert acc.counts_p.tolist() == [[1, 2, 0]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_result_equals_scipy(dtype):
    """Values, counts and units are those of SciPy on the totals of all chunks."""
    p, q = (values(500, shift=s, seed=i).astype(dtype) for i, s in enumerate((0, 0.3)))
    acc = HistogramDivergence(MEASURES, edges=EDGES, base=2, smoothing=0.5, n_features=3)
    for chunk in np.array_split(np.arange(500), 7):
        acc.update(p[chunk], q[chunk])
    counts_p, counts_q = (naive_counts(x.astype(float), EDGES) for x in (p, q))
    assert (acc.counts_p == counts_p).all()
    found = acc.result()
    for feature in range(3):
        a, b = counts_p[feature] + 0.5, counts_q[feature] + 0.5
        assert found["kl"][feature] == pytest.approx(entropy(a, b, base=2), rel=1e-12)
        expected = naive_measures(a, b)
        for name in MEASURES:
            unit = np.log(2) if name in ("kl", "reverse_kl", "js", "psi") else 1
            assert found[name][feature] == pytest.approx(expected[name] / unit, rel=1e-12)


def test_corrections_and_errors_hold_in_simulation():
    """Over many samples the corrected mean is near the truth, and the errors are their spread."""
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.full(8, 5.0)), rng.dirichlet(np.full(8, 5.0))
    n_p, n_q, repeats = 1500, 1000, 4000
    acc = HistogramDivergence(MEASURES, categories=np.arange(8), n_features=repeats)
    other = np.zeros((repeats, 1), int)
    acc.add_counts(
        np.hstack([rng.multinomial(n_p, p, repeats), other]),
        np.hstack([rng.multinomial(n_q, q, repeats), other]),
    )
    found, truth = acc.result(), naive_measures(p, q)
    for name in MEASURES:
        spread = found[name].std()
        # the spread of 4,000 samples is known to 1.1 %, its expansion to about 1 / 1,000
        # (total variation has a kink at p = q, near which its first order overstates the spread)
        tolerance = 0.15 if name == "total_variation" else 0.06
        assert np.median(found.standard_errors[name]) == pytest.approx(spread, rel=tolerance)
        if name != "total_variation":
            plain = abs(found[name].mean() - truth[name])
            left = abs(found.corrected[name].mean() - truth[name])
            assert left < 4 * spread / repeats**0.5 + 0.15 * plain
    entropy_bias = (found["kl"] - found.corrected["kl"]).mean()
    assert entropy_bias > 7 / (2 * n_p)  # the part that the correction of Miller and Madow takes away


def test_categories_and_others():
    """Unknown categories are counted in a last bin; strings and integers work, in the given order."""
    acc = HistogramDivergence(categories=["b", "a"]).update(np.array(["a", "b", "zz"]), np.array(["b", "b", "aa"]))
    assert acc.counts_p.tolist() == [[1, 1, 1]]
    assert acc.counts_q.tolist() == [[2, 0, 1]]
    numbers = HistogramDivergence(categories=[5, -1], n_features=2).update(np.array([[5, -1], [-1, 7]]))
    assert numbers.counts_p.tolist() == [[1, 1, 0], [0, 1, 1]]
    with pytest.raises(TypeError, match="integers"):
        numbers.update(np.array([["a", "b"]]))


def test_missing_values_are_counted_apart():
    """NaN is counted as missing and reaches no bin."""
    found = HistogramDivergence(edges=[0.0]).update([np.nan, 1.0, -1.0], [np.nan, np.nan, 1.0]).result()
    assert (found.missing_p.tolist(), found.missing_q.tolist()) == ([1], [2])
    assert (found.n_p.tolist(), found.n_q.tolist()) == ([2], [1])


def test_fixed_reference(tmp_path):
    """A fixed reference survives reset and files, refuses p, and is not added twice."""
    reference = HistogramDivergence(edges=EDGES, n_features=3).update(values(100)).fix_reference()
    reference.save(tmp_path / "reference.npz")
    days = [HistogramDivergence.load(tmp_path / "reference.npz").update(q=values(50, seed=i)) for i in range(3)]
    total = days[0] + days[1] + days[2]
    assert (total.counts_p == reference.counts_p).all()
    assert total.counts_q.sum() == 450
    with pytest.raises(ValueError, match="fixed"):
        total.update(values(1))
    with pytest.raises(ValueError, match="fixed reference"):
        total.merge(HistogramDivergence(edges=EDGES, n_features=3))
    with pytest.raises(ValueError, match="same fixed reference"):
        total.merge(HistogramDivergence(edges=EDGES, n_features=3).fix_reference())
    compared = reference.compare(np.stack([day.counts_q for day in days]))
    assert compared["psi"].shape == (3, 3)
    for i, day in enumerate(days):
        assert (compared["psi"][i] == day.result()["psi"]).all()
    assert total.reset() == reference
    for bad in (-1, 1 << 51):
        with pytest.raises(ValueError, match="must not be negative"):
            reference.compare(np.full((3, 6), bad))


def test_chunking_and_merging_change_no_bit(n_threads):
    """Random chunkings and merge orders give one state."""
    p, q = values(300), values(300, seed=1, shift=0.2)
    rng = np.random.default_rng(2)
    whole = HistogramDivergence(edges=EDGES, n_features=3).update(p, q)
    for _ in range(30):
        order = rng.permutation(300)
        parts = [
            HistogramDivergence(edges=EDGES, n_features=3, n_threads=n_threads).update(p[i], q[i])
            for i in np.split(order, np.sort(rng.integers(0, 301, 5)))
        ]
        assert sum(rng.permutation(np.array(parts, object)).tolist()) == whole


def test_empty_and_readable():
    """Without counts every measure is NaN; the repr and the dict can be read."""
    empty = HistogramDivergence(edges=EDGES).result()
    assert all(np.isnan(empty[name]).all() for name in empty)
    acc = HistogramDivergence(edges=EDGES, n_features=3).update(values(9), values(9, seed=1))
    assert "psi" in repr(acc.result())
    assert acc.result().to_dict()["n_p"] == [9, 9, 9]
    assert acc != acc.copy().update(values(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one"), ({"edges": [1, 0]}, "increase"), ({"edges": [np.nan]}, "finite"),
        ({"edges": []}, "shape"),
        ({"edges": [0.0], "n_features": 0}, "n_features"), ({"categories": [1, 1]}, "distinct"),
        ({"edges": [0.0], "measures": ("x",)}, "among kl"), ({"edges": [0.0], "smoothing": -1}, "smoothing"),
        ({"edges": [0.0], "base": 1}, "base"),
    ],
)  # fmt: skip
def test_bad_options(options, message):
    """Options are checked when an accumulator is made."""
    with pytest.raises(ValueError, match=message):
        HistogramDivergence(**options)


def test_bad_values_leave_it_untouched():
    """Neither side is counted when one of them is refused."""
    acc = HistogramDivergence(edges=EDGES, n_features=3)
    for bad in (np.zeros((3, 2)), np.zeros(3)):
        with pytest.raises(ValueError, match="shape"):
            acc.update(values(3), bad)
    with pytest.raises(TypeError, match="numbers"):
        acc.update(values(3), np.array([["a"] * 3]))
    with pytest.raises(ValueError, match="negative"):
        acc.add_counts(np.ones((3, 6), int), -np.ones((3, 6), int))
    assert acc == HistogramDivergence(edges=EDGES, n_features=3)
