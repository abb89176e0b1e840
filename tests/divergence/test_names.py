"""Frames and series whose names stand in another order: matched by name, or refused."""

import numpy as np
import pytest

import kullback
from kullback.streaming import HistogramDivergence, PairedDivergence, RowDivergence, SupportDivergence

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")

rng = np.random.default_rng(0)
A, B = rng.dirichlet(np.ones(4), (2, 6))
NAMES = list("wxyz")
ORDER = [2, 0, 3, 1]
P = pandas.DataFrame(A, columns=NAMES)
Q = pandas.DataFrame(B, columns=NAMES)
TURNED = Q.iloc[:, ORDER]
OTHER = Q.rename(columns={"w": "v"})
SHUFFLED = Q.iloc[::-1]

CALLS = {
    "kl": lambda p, q: kullback.kl_divergence(p, q),
    "compare": lambda p, q: kullback.compare(p, q, ("js",))["js"],
    "decompose": lambda p, q: kullback.decompose(p, q).cross_entropy,
    "bhattacharyya": lambda p, q: kullback.bhattacharyya_distance(p, q),
    "log_loss": lambda p, q: kullback.log_loss(p, q),
    "rows": lambda p, q: RowDivergence().update(p, q).result().kl.mean,
    "labelled": lambda p, q: (
        RowDivergence(("kl", "log_loss")).update(p, q, labels=np.zeros(6, int)).result()["log_loss"].mean
    ),
    "paired": lambda p, q: PairedDivergence().update(p, q, q).result().mean_a,
    "evaluate": lambda p, q: kullback.evaluate(p, q, progress=False).kl.mean,
}
WITHOUT_PAIRS = {
    "pairwise": lambda p, q: kullback.pairwise_divergence(p, q),
    "samples": lambda p, q: kullback.kl_divergence_from_samples(p, q, k=1),
    "blocks": lambda p, q: kullback.evaluate([p], iter([q[:2], q[2:]]), progress=False).kl.mean,
}


@pytest.mark.parametrize("name", [*CALLS, *WITHOUT_PAIRS])
def test_columns_are_matched_by_name(name):
    """Columns in another order give the same bits, in pandas and in Polars; other names are refused."""
    call = {**CALLS, **WITHOUT_PAIRS}[name]
    expected = call(P, Q)
    np.testing.assert_array_equal(call(P.to_numpy(), Q.to_numpy()), expected)
    np.testing.assert_array_equal(call(P, TURNED), expected)
    np.testing.assert_array_equal(call(polars.from_pandas(P), polars.from_pandas(TURNED)), expected)
    with pytest.raises(ValueError, match=r"must have the same names along their elements, got 'w'.*to_numpy"):
        call(P, OTHER)
    # What has no names, or merely counted ones, is paired by place.
    np.testing.assert_array_equal(call(P, pandas.DataFrame(B)), expected)
    np.testing.assert_array_equal(call(P, B), expected)


@pytest.mark.parametrize("name", CALLS)
def test_rows_that_are_pairs_need_one_index(name):
    """Rows in another order, and other rows, are refused; an index that merely counts says nothing."""
    call = CALLS[name]
    with pytest.raises(ValueError, match="must have the same index, as their rows are pairs, got 0 and 5 at place 0"):
        call(P, SHUFFLED)
    named = [frame.set_index(pandas.Index(list(letters))) for frame, letters in ((P, "abcdef"), (Q, "abcdeg"))]
    with pytest.raises(ValueError, match=r"same index.*'f' and 'g' at place 5"):
        call(*named)
    np.testing.assert_array_equal(call(named[0], Q), call(P, Q))


@pytest.mark.parametrize("name", WITHOUT_PAIRS)
def test_rows_that_are_no_pairs_may_have_any_index(name):
    """All pairs, samples and blocks of a stream are counted by place."""
    call = WITHOUT_PAIRS[name]
    np.testing.assert_array_equal(call(P, SHUFFLED), call(A, B[::-1]))


def test_series_are_matched_by_their_index():
    """A series is a distribution over its index; along axis 0 so is each column of a frame."""
    p, q = pandas.Series(A[0], NAMES), pandas.Series(B[0], NAMES)
    expected = kullback.kl_divergence(A[0], B[0])
    assert kullback.kl_divergence(p, q[::-1]) == expected
    assert kullback.kl_divergence(P, q[::-1])[0] == kullback.kl_divergence(P, Q.iloc[0])[0] == expected
    found = SupportDivergence().update(p, q[::-1]).result().kl
    assert found == SupportDivergence().update(p, q).result().kl
    with pytest.raises(ValueError, match="same names along their elements"):
        kullback.kl_divergence(p, q.rename({"x": "other"}))
    np.testing.assert_array_equal(kullback.kl_divergence(P.T, TURNED.T, axis=0), kullback.kl_divergence(A, B))
    both = kullback.kl_divergence(P, SHUFFLED.iloc[:, ORDER], axis=None, normalize=True)
    assert both == kullback.kl_divergence(A, B, axis=None, normalize=True)
    repeated = pandas.Series([0.5, 0.5], ["a", "a"])
    assert kullback.kl_divergence(repeated, repeated) == 0
    with pytest.raises(ValueError, match="repeated names in another order"):
        kullback.kl_divergence(pandas.Series([0.2, 0.3, 0.5], list("aab")), pandas.Series([0.2, 0.3, 0.5], list("aba")))


@pytest.mark.parametrize(
    "call",
    [
        lambda y: kullback.log_loss(y, P),
        lambda y: kullback.cross_entropy(y, P),
        lambda y: kullback.log_loss(y % 2, P["w"]),
        lambda y: kullback.kl_divergence(P, Q, weights=y, reduction="mean"),
        lambda y: kullback.log_loss([0] * 6, P, where=y > 1),
        lambda y: RowDivergence().update(P, Q, weights=y),
        lambda y: RowDivergence(("log_loss",)).update(P, Q, labels=y),
        lambda y: RowDivergence(groups=True).update(P, Q, group=y),
        lambda y: PairedDivergence(clusters=True).update(P, Q, Q, cluster=y),
        lambda y: kullback.evaluate(P, Q, weights=y, progress=False),
        lambda y: kullback.kl_divergence_topk(pandas.DataFrame({"first": y}), np.full((6, 1), -1.0), P),
    ],
)
def test_what_each_row_has_needs_the_index_of_the_rows(call):
    """Labels, weights, masks and groups of rows in another order are refused."""
    y = pandas.Series([0, 1, 2, 3, 2, 1])
    call(y)
    call(y.set_axis(list("abcdef")))
    with pytest.raises(ValueError, match="must have the same index"):
        call(y[::-1])


def test_features_of_histograms_are_matched_across_chunks():
    """The first frame names the features; later ones, states, files and merges are matched with it."""
    edges = np.sort(rng.random((4, 3)), axis=1)
    plain = HistogramDivergence(edges=edges, n_features=4).update(A, B).update(q=A)
    named = HistogramDivergence(edges=edges, n_features=4).update(P, TURNED)
    with pytest.raises(ValueError, match="the features seen before and those of q must have the same names"):
        named.update(q=OTHER)
    again = HistogramDivergence.from_state(named.to_state())
    for accumulator in (named, again, named.copy()):
        accumulator.update(q=P.iloc[:, ORDER])
        np.testing.assert_array_equal(accumulator.counts_q, plain.counts_q)
    other = HistogramDivergence(edges=edges, n_features=4).update(q=TURNED)
    with pytest.raises(ValueError, match="features in the same order"):
        named.merge(other)
    assert named.merge(HistogramDivergence(edges=edges, n_features=4).update(q=Q)).counts_q.sum() == 4 * 18


def test_dims_of_xarray():
    """Arrays with named dims are matched by their indexes, and refused where the dims stand in another order."""

    class Labelled:
        def __init__(self, values, dims, **indexes):
            self.values, self.dims, self.indexes = values, dims, indexes

        def __array__(self, dtype=None, copy=None):
            return np.asarray(self.values)

    p = Labelled(A, ("row", "word"), word=P.columns)
    q = Labelled(TURNED.to_numpy(), ("row", "word"), word=TURNED.columns)
    np.testing.assert_array_equal(kullback.kl_divergence(p, q), kullback.kl_divergence(A, B))
    with pytest.raises(ValueError, match="must have the same dims in the same order"):
        kullback.kl_divergence(Labelled(A[:4], ("row", "word")), Labelled(B[:4], ("word", "row"), word=P.columns))


@pytest.mark.parametrize("axis", ["columns", [1], 1.0])
def test_an_axis_that_is_none_is_named(axis):
    """Names are looked up along the axes, which must not fail before these are checked."""
    weights = pandas.Series(np.ones(6))
    with pytest.raises(TypeError, match="axis must be an int"):
        kullback.kl_divergence(P, Q, axis=axis, weights=weights)
    with pytest.raises(TypeError, match="axis must be an int"):
        kullback.log_loss(pandas.Series([0, 1] * 3), P, axis=axis)


def test_index_of_frames_in_blocks():
    """Rows of blocks are pairs, too: an index in another order is refused, wherever the blocks begin."""
    p, q = P.set_axis(list("abcdef")), Q.set_axis(list("abcdef"))
    expected = kullback.evaluate(A, B, progress=False).kl.mean

    def call(p, q, **options):
        return kullback.evaluate(p, q, progress=False, **options).kl.mean

    for options in ({}, {"batch_rows": 1}, {"batch_rows": 4}):
        assert call(iter([p[:2], p[2:]]), iter([q[:5], q[5:]]), **options) == expected
        assert call(p, iter([q[:1], q[1:]]), **options) == expected
        assert call(iter([p[:4], p[4:]]), B, **options) == expected
        for wrong in (q.iloc[[0, 1, 2, 4, 3, 5]], q.set_axis(list("abcxef"))):
            with pytest.raises(ValueError, match=r"the rows of both sides must have the same index.* at place 3"):
                call(iter([p[:2], p[2:]]), iter([wrong[:3], wrong[3:]]), **options)
            with pytest.raises(ValueError, match="must have the same index"):
                call(p, iter([wrong]), **options)
    # An index that merely counts within each block says nothing.
    parts = [Q[:2], Q[2:5].reset_index(drop=True), Q[5:].reset_index(drop=True)]
    assert call(iter([P[:3], P[3:].reset_index(drop=True)]), iter(parts)) == expected
    assert call(p, iter(parts)) == expected


def test_frames_of_dask():
    """Frames that are larger than memory are matched by name, too, beside each other and beside frames in memory."""
    frame = pytest.importorskip("dask.dataframe")
    dask_p, dask_q = frame.from_pandas(P, npartitions=2), frame.from_pandas(Q, npartitions=3)
    turned = dask_q[[NAMES[i] for i in ORDER]]
    expected = kullback.kl_divergence(P, Q)
    for p, q in ((dask_p, dask_q), (dask_p, turned), (P, turned), (dask_p, TURNED), (A, dask_q)):
        np.testing.assert_array_equal(kullback.kl_divergence(p, q), expected)
        assert RowDivergence().update(p, q).result().kl.mean == kullback.evaluate(P, Q, progress=False).kl.mean
        assert kullback.evaluate(p, q, progress=False) == kullback.evaluate(P, Q, progress=False)
    letters = Q.set_axis(list("abcdef"))
    other = frame.from_pandas(OTHER, npartitions=2)
    for call in (kullback.kl_divergence, lambda p, q: kullback.evaluate(p, q, progress=False)):
        with pytest.raises(ValueError, match="must have the same names along their elements"):
            call(dask_p, other)
        with pytest.raises(ValueError, match="must have the same index"):
            call(frame.from_pandas(letters, npartitions=2), letters.iloc[::-1])


def test_tables_of_arrow():
    """The columns of Arrow tables have names, and their rows have none."""
    arrow = pytest.importorskip("pyarrow")
    p, q, turned, other = (arrow.table(dict(frame)) for frame in (P, Q, TURNED, OTHER))
    expected = kullback.kl_divergence(P, Q)
    for call in (kullback.kl_divergence, lambda p, q: kullback.evaluate([p], [q], progress=False).kl.mean):
        mean = np.mean(expected) if call is not kullback.kl_divergence else expected
        for second in (q, turned, TURNED, SHUFFLED.iloc[::-1]):
            np.testing.assert_allclose(call(p, second), mean, rtol=1e-15)
        with pytest.raises(ValueError, match="must have the same names along their elements"):
            call(p, other)
    batch = turned.to_batches()[0]
    np.testing.assert_array_equal(kullback.kl_divergence(p, batch), expected)


def test_labelled_arrays_of_xarray():
    """Dimensions and coordinates of xarray are matched as index and columns are."""
    xarray = pytest.importorskip("xarray")
    rows = [("row", list("abcdef")), ("word", NAMES)]
    p, q = xarray.DataArray(A, rows), xarray.DataArray(B, rows)
    expected = kullback.kl_divergence(P, Q)
    np.testing.assert_array_equal(kullback.kl_divergence(p, q[:, ORDER]), expected)
    with pytest.raises(ValueError, match="must have the same index"):
        kullback.kl_divergence(p, q[::-1])
    with pytest.raises(ValueError, match="must have the same dims"):
        kullback.kl_divergence(p, q.T)
