"""Sparse rows give what dense ones give, whatever the format, the order and the repetitions of their elements."""

from contextlib import suppress

import numpy as np
import pytest
from scipy import sparse

import kullback
from kullback.divergence import _sparse
from kullback.readers import compare_logits
from kullback.streaming import HistogramDivergence, PairedDivergence, RowDivergence, SupportDivergence

TWO_SIDED = (
    "kl_divergence",
    "cross_entropy",
    "jeffreys_divergence",
    "population_stability_index",
    "jensen_shannon_divergence",
    "jensen_shannon_distance",
    "hellinger_distance",
    "bhattacharyya_distance",
    "total_variation_distance",
    "chi2_divergence",
    "decompose",
)
ORDERED = ("renyi_divergence", "alpha_divergence", "renyi_entropy", "tsallis_entropy")
MEASURES = ("kl", "reverse_kl", "entropy_p", "js", "hellinger", "total_variation", "chi2", "top1_agreement")
FORMATS = ("csr", "csc", "coo", "lil", "dok", "bsr", "dia")


def draw(shape, density, seed, *, as_counts=False):
    """Return dense rows, all with a value in their first column, of which most elements are 0."""
    rng = np.random.default_rng(seed)
    rows = np.where(rng.random(shape) < density, rng.random(shape), 0)
    rows[:, 0] += 0.3
    return np.ceil(9 * rows).astype(int) if as_counts else rows / rows.sum(axis=1, keepdims=True)


def functions():
    """Yield calls of every function of rows by name."""
    for name in TWO_SIDED:
        yield name, getattr(kullback, name)
    for name in ORDERED:
        function, both = getattr(kullback, name), name.endswith("divergence")
        for alpha in (0.5, 1.0, 2.0):
            yield (
                f"{name} {alpha}",
                lambda p, q, f=function, a=alpha, both=both, **o: f(p, *(q,) * both, alpha=a, **o),
            )
    for name in ("entropy", "perplexity"):
        yield name, lambda p, q, name=name, **o: getattr(kullback, name)(p, **o)
    yield "compare", lambda p, q, **o: list(kullback.compare(p, q, MEASURES, **o).values())


@pytest.mark.parametrize(("name", "call"), functions())
@pytest.mark.parametrize("as_counts", [False, True])
def test_every_function_of_rows(name, call, as_counts):
    """Both sides sparse, one of them dense, one row against many, and the options that make zeros count."""
    p, q = (draw((40, 90), 0.1, seed, as_counts=as_counts) for seed in (0, 1))
    q = p + q if as_counts else (p + q) / 2
    plain = {"smoothing": 0.5} if name != "population_stability_index" else {"normalize": True}
    for options in ({}, {"base": 2, "reduction": "mean"}, {"from_logits": True}, {"keepdims": True}, plain):
        for first, second, dense in (
            (sparse.csr_matrix(p), sparse.coo_array(q), (p, q)),
            (sparse.csc_array(p), q, (p, q)),
            (p, sparse.lil_matrix(q), (p, q)),
            (sparse.csr_array(p), sparse.csr_array(q[:1]), (p, q[:1])),
        ):
            expected = np.array(call(*dense, **options))
            actual = np.array(call(first, second, **options))
            assert actual.shape == expected.shape
            np.testing.assert_allclose(actual, expected, rtol=2e-12, atol=1e-15)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, np.float64, np.longdouble, ">f8"])
def test_formats_and_dtypes(form, dtype):
    """Matrix and array flavours of every format, with rows along either axis or along both."""
    rows = draw((12, 30), 0.2, 2, as_counts=True).astype(dtype)
    if rows.dtype.kind == "f":
        rows = (rows / rows.sum(axis=1, keepdims=True)).astype(dtype)
    for make in (getattr(sparse, f"{form}_matrix"), getattr(sparse, f"{form}_array")):
        try:
            matrix = make(rows)
        except (TypeError, ValueError):  # not every format takes every dtype
            continue
        for options in ({}, {"axis": 0, "normalize": True}, {"axis": None, "normalize": True}):
            expected = kullback.entropy(np.asarray(rows, float), **options | {"normalize": True})
            np.testing.assert_allclose(kullback.entropy(matrix, **options), expected, rtol=2e-7)
        np.testing.assert_allclose(kullback.kl_divergence(matrix, matrix.copy()), 0)


def test_vectors():
    """A sparse array of one axis is one row; SciPy before 1.13 makes a matrix of one row of it."""
    p, q = draw((2, 50), 0.3, 3)
    q = (p + q) / 2
    assert kullback.entropy(sparse.coo_array(p)) == pytest.approx(kullback.entropy(p), rel=1e-14)
    found = kullback.kl_divergence(sparse.coo_array(p), sparse.csr_array(q[None]))
    np.testing.assert_allclose(found, [kullback.kl_divergence(p, q)], rtol=1e-13)
    assert np.ndim(kullback.kl_divergence(sparse.coo_array(p), q)) == sparse.coo_array(p).ndim - 1
    with pytest.raises(ValueError, match=r"p must sum to 1 within .* got 2"):
        kullback.entropy(sparse.coo_array(2 * p))


def unsorted_with_repetitions(dense):
    """Return a CSR matrix with shuffled, split and stored-zero elements, and what it must look like afterwards."""
    rng = np.random.default_rng(4)
    lines = []
    for row in dense:
        columns = np.flatnonzero(row)
        columns = np.concatenate([columns, columns, np.flatnonzero(row == 0)[:2]])
        values = np.where(row[columns] > 0, row[columns] / 2, 0)
        order = rng.permutation(len(columns))
        lines.append((columns[order], values[order]))
    starts = np.cumsum([0, *(len(columns) for columns, _ in lines)])
    columns, values = (np.concatenate(parts) for parts in zip(*lines, strict=True))
    matrix = sparse.csr_matrix((values, columns, starts), shape=dense.shape)
    return matrix, (values.copy(), columns.copy(), starts.copy())


def test_what_is_given_is_not_changed():
    """Unsorted indices, repeated elements and stored zeros count as SciPy adds them up, in the user's own matrix."""
    rows = draw((30, 60), 0.2, 5)
    matrix, kept = unsorted_with_repetitions(rows)
    matrix.has_sorted_indices = matrix.has_canonical_format = True  # as after a change in place
    for call in (
        kullback.entropy,
        lambda p: kullback.kl_divergence(p, sparse.csr_array(rows)),
        lambda p: kullback.kl_divergence(p, rows),
        lambda p: kullback.compare(p, sparse.csr_array(rows), ("js", "top1_agreement"))["js"],
        lambda p: kullback.log_loss(np.zeros(30, int), p),
        lambda p: kullback.pairwise_divergence(p, measure="js"),
        lambda p: kullback.mutual_information(p),
        lambda p: kullback.evaluate(p, p.copy(), progress=False).kl.mean,
    ):
        np.testing.assert_allclose(call(matrix), call(sparse.csr_matrix(rows)), rtol=1e-12, atol=1e-15)
        for found, expected in zip((matrix.data, matrix.indices, matrix.indptr), kept, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_rows_of_very_different_lengths():
    """Blocks of similar rows cover all rows once, and each value is written to the place of its row."""
    rng = np.random.default_rng(6)
    rows = np.zeros((300, 2000))
    for row, length in zip(rows, np.minimum(rng.zipf(1.3, 300), 2000), strict=True):
        row[rng.choice(2000, length, replace=False)] = rng.random(length) + 0.01
    rows /= rows.sum(axis=1, keepdims=True)
    lengths = np.count_nonzero(rows, axis=1)
    blocks = list(_sparse._similar_rows(lengths))
    assert np.array_equal(np.sort(np.concatenate(blocks)), np.arange(300))
    padded = sum(len(block) * lengths[block].max() for block in blocks)
    assert padded <= 2 * lengths.sum() + _sparse.MOST_PADDING * 300
    mixed = (rows + rows[::-1]) / 2
    np.testing.assert_allclose(
        kullback.kl_divergence(sparse.csr_array(rows), sparse.csr_array(mixed)),
        kullback.kl_divergence(rows, mixed),
        rtol=1e-12,
    )


def test_wide_rows_take_little_memory():
    """Rows of ten million columns, which would be 8 GB as dense ones."""
    rng = np.random.default_rng(7)
    columns = np.sort(rng.choice(10**7, (100, 50), replace=False), axis=1)
    starts = np.arange(0, 5001, 50)
    p = sparse.csr_array((np.full(5000, 0.02), columns.ravel(), starts), shape=(100, 10**7))
    np.testing.assert_allclose(kullback.entropy(p), np.log(50), rtol=1e-14)
    np.testing.assert_allclose(kullback.jensen_shannon_divergence(p, p[::-1].tocsr()), np.log(2), rtol=1e-14)
    values = kullback.pairwise_divergence(p, measure="total_variation")
    np.testing.assert_allclose(values, 1 - np.eye(100), rtol=1e-14)
    assert kullback.evaluate(p, p.copy(), progress=False).kl.mean == 0


@pytest.mark.parametrize("normalize", ["check", True, False])
@pytest.mark.parametrize("wrong", [0.0, -0.5, np.nan, np.inf, 7.0])
def test_bad_rows_as_dense_ones(normalize, wrong):
    """Empty rows, negative and NaN entries and sums give the error that names the first of them, or the same values."""
    p, q = draw((50, 40), 0.2, 8), draw((50, 40), 0.2, 9)
    q = (p + q) / 2
    for row in (44, 21):
        p[row] = 0
        p[row, 3] = wrong
    p[44, 4:20] = 0.01  # a longer row comes later in a block
    calls = [
        lambda p, q: kullback.kl_divergence(p, q, normalize=normalize),
        lambda p, q: list(kullback.compare(p, q, MEASURES, normalize=normalize).values()),
        lambda p, q: kullback.kl_divergence(p, q, normalize=normalize, where=np.arange(50) != 21),
        lambda p, q: RowDivergence(normalize=normalize).update(p, q).result().kl.mean,
    ]
    for call in calls:
        try:
            expected = call(p, q)
        except ValueError as error:
            with pytest.raises(ValueError, match="in row") as found:
                call(sparse.csr_matrix(p), sparse.csr_matrix(q))
            assert str(found.value) == str(error)
        else:
            np.testing.assert_allclose(call(sparse.csr_matrix(p), sparse.csr_matrix(q)), expected, rtol=1e-12)


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_indices_are_checked(form):
    """SciPy lets indices out of range pass, in every function."""
    matrix = getattr(sparse, f"{form}_array")(draw((10, 8), 0.5, 10))
    indices = matrix.indices if form != "coo" else matrix.col
    indices[3] = -1
    for call in (
        lambda: kullback.entropy(matrix),
        lambda: kullback.kl_divergence(np.full((10, 8), 0.125), matrix),
        lambda: kullback.pairwise_divergence(matrix),
        lambda: kullback.mutual_information(matrix),
        lambda: kullback.evaluate(matrix, matrix, progress=False),
    ):
        with pytest.raises(ValueError, match=r"must have indices in \[0, "):
            call()


def test_labels_and_weights():
    """Losses of sparse probabilities, with classes along either axis, and reductions over sparse rows."""
    q = draw((60, 20), 0.4, 11)
    labels = np.where(np.arange(60) % 2, 0, np.argmax(q, axis=1))
    weights = np.random.default_rng(12).random(60)
    for options in ({}, {"label_smoothing": 0.1, "smoothing": 0.1}, {"reduction": "mean", "weights": weights}):
        expected = kullback.log_loss(labels, q, **options)
        np.testing.assert_allclose(kullback.log_loss(labels, sparse.csr_matrix(q), **options), expected, rtol=1e-13)
        turned = kullback.log_loss(labels, sparse.csr_array(q.T), axis=0, **options)
        np.testing.assert_allclose(turned, expected, rtol=1e-13)
    np.testing.assert_allclose(
        kullback.cross_entropy(labels, sparse.csc_matrix(q)), kullback.cross_entropy(labels, q), rtol=1e-13
    )
    np.testing.assert_allclose(kullback.log_loss(sparse.csr_array(q), q), kullback.log_loss(q, q), rtol=1e-13)
    column, truth = np.linspace(0.1, 0.9, 9)[:, None], [0, 1] * 4 + [1]
    for kind in (sparse.csr_array, sparse.csr_matrix, sparse.coo_matrix):
        np.testing.assert_allclose(kullback.log_loss(truth, kind(column)), kullback.log_loss(truth, column), rtol=1e-13)


@pytest.mark.parametrize("measure", ["kl", "cross_entropy", "hellinger", "js", "js_distance", "total_variation",
                                     "chi2", "jeffreys"])  # fmt: skip
@pytest.mark.parametrize(("n_columns", "density"), [(40, 0.3), (3000, 0.01)])
def test_pairs(measure, n_columns, density):
    """All pairs, narrow and wide, against themselves, other sparse rows and dense ones, and the nearest."""
    p, q = draw((90, n_columns), density, 13), draw((70, n_columns), density, 14)
    q[5] = p[7]
    for options in ({}, {"base": 2}):
        for other, dense in ((None, None), (sparse.coo_matrix(q), q), (q, q)):
            expected = kullback.pairwise_divergence(p, dense, measure=measure, **options)
            actual = kullback.pairwise_divergence(sparse.csc_array(p), other, measure=measure, **options)
            np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-15)
            if measure in ("hellinger", "js", "js_distance", "total_variation", "jeffreys") and other is not None:
                swapped = kullback.pairwise_divergence(other, sparse.csc_array(p), measure=measure, **options)
                np.testing.assert_array_equal(swapped.T, actual)
    if measure != "cross_entropy":
        assert (np.diag(kullback.pairwise_divergence(sparse.csr_array(p), measure=measure)) == 0).all()
    out = np.empty((90, 70))
    assert kullback.pairwise_divergence(p, sparse.csr_array(q), measure=measure, out=out) is out
    values, indices = kullback.pairwise_divergence(sparse.csr_array(p), sparse.csr_array(q), measure="js", k=3)
    expected = kullback.pairwise_divergence(p, q, measure="js", k=3)
    np.testing.assert_allclose(values, expected[0], rtol=1e-12)
    np.testing.assert_array_equal(indices[:, 0], expected[1][:, 0])
    for bad, message in ((2 * p, "P must have rows that sum to 1, got 2 in row 0"), (-p, "negative or NaN .* row 0")):
        with pytest.raises(ValueError, match=message):
            kullback.pairwise_divergence(sparse.csr_matrix(bad), measure=measure)


def test_mutual_information_of_tables():
    """Only cells that are not 0 are looked at, and the rest of the product of the marginals is one cell."""
    rng = np.random.default_rng(15)
    for table in (
        rng.integers(0, 3, (40, 60)),
        np.outer([1, 2, 0, 3], [4, 5, 0]),
        np.diag(np.arange(6)),
        rng.random((5, 4)),
        np.ones((1, 7), int),
        np.zeros((3, 3)),
    ):
        expected = kullback.mutual_information(table)
        for make in (sparse.csr_matrix, sparse.csc_array, sparse.coo_array):
            np.testing.assert_allclose(kullback.mutual_information(make(table)), expected, rtol=1e-12, atol=1e-15)
    with pytest.raises(ValueError, match="counts must be finite and >= 0"):
        kullback.mutual_information(sparse.csr_array([[1.0, -1.0]]))
    wide = sparse.csr_array((np.ones(1000), np.arange(0, 10**7, 10**4), np.arange(1001)), shape=(1000, 10**7))
    np.testing.assert_allclose(kullback.mutual_information(wide), np.log(1000), rtol=1e-13)


def test_accumulators_and_evaluate():
    """Chunks and sources that are sparse, beside dense ones and labels; a bad row is named by its place."""
    p, q = draw((200, 500), 0.02, 16), draw((200, 500), 0.02, 17)
    q = (p + q) / 2
    measures, labels = ("kl", "js", "top1_agreement", "log_loss"), np.zeros(200, int)
    expected = RowDivergence(measures).update(p, q, labels=labels).result()
    chunks = RowDivergence(measures)
    for start in (0, 70):
        rows = slice(start, start + 70 if start == 0 else None)
        chunks.update(sparse.csr_matrix(p[rows]), sparse.csc_array(q[rows]), labels=labels[rows])
    results = [chunks.result()]
    for sides in ((sparse.coo_array(p), sparse.csr_array(q)), (sparse.csr_matrix(p), q), (p, sparse.csr_matrix(q)),
                  (sparse.csr_array(p), iter([q[:120], q[120:]]))):  # fmt: skip
        results.append(kullback.evaluate(*sides, measures=measures, labels=labels, batch_rows=33, progress=False))
    for result in results:
        for name in measures:
            assert result[name].mean == pytest.approx(expected[name].mean, rel=1e-12)
    paired = PairedDivergence("js").update(sparse.csr_array(p), sparse.csr_array(q), p).result()
    assert paired.mean_a == pytest.approx(expected.js.mean, rel=1e-12)
    p[77, 3] = -1
    with pytest.raises(ValueError, match=r"in row 77$"):
        kullback.evaluate(sparse.csr_array(p), sparse.csr_array(q), batch_rows=50, progress=False)


def test_what_stays_dense_says_so():
    """Where zeros are values like others, sparse rows are refused with the remedy."""
    rows = sparse.csr_array(draw((4, 3), 0.5, 18))
    for call in (
        lambda: SupportDivergence().update(rows, rows),
        lambda: HistogramDivergence(edges=[0.5], n_features=3).update(rows, rows),
        lambda: compare_logits(rows, rows, np.zeros(4, int)),
        lambda: kullback.kl_divergence_topk([[0]] * 4, [[-1.0]] * 4, rows),
        lambda: kullback.differential_entropy_from_samples(rows, k=1),
        lambda: kullback.evaluate([rows], [rows], progress=False),
        lambda: kullback.log_loss(rows, rows.toarray(), from_logits=True),
    ):
        with pytest.raises(TypeError, match=r"must be dense, got a sparse .*toarray\(\)"):
            call()
    with pytest.raises(ValueError, match="q must have at most two axes beside sparse rows"):
        kullback.kl_divergence(rows, np.full((2, 4, 3), 1 / 3))
    with suppress(TypeError):  # SciPy before 1.15 has no sparse array of three axes
        cube = sparse.coo_array(np.ones((2, 2, 2)))
        with pytest.raises(ValueError, match="p must have at most two axes where it is sparse"):
            kullback.entropy(cube)
    with pytest.raises(ValueError, match="p and q must have equally many elements along axis -1, got 3 and 1"):
        kullback.kl_divergence(rows, sparse.csr_array(np.ones((4, 1))))
    with pytest.raises(TypeError, match="got dtype complex128"):
        kullback.entropy(rows.astype(complex))
