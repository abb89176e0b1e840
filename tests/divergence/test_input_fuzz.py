"""Drawn dtypes, layouts, orders of axes, broadcasts, options and containers give the values of plain float64 rows."""

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import kullback
from kullback.streaming import RowDivergence

FUZZ = Path(__file__).parents[2] / "devel" / "fuzz_divergences.py"
N_EXAMPLES = int(os.environ.get("KULLBACK_EXAMPLES", "100"))
PROFILE = settings(max_examples=N_EXAMPLES, deadline=None, derandomize=N_EXAMPLES == 100)
FLOATS = ("float16", "float32", "float64", "bfloat16", ">f4", ">f8", "longdouble", "object")
COUNTS = ("bool", "uint8", "int16", "uint16", "int32", "uint64", ">i4", "object")
FUNCTIONS = {
    "kl": kullback.kl_divergence,
    "cross_entropy": kullback.cross_entropy,
    "js": kullback.jensen_shannon_divergence,
    "hellinger": kullback.hellinger_distance,
    "total_variation": kullback.total_variation_distance,
    "chi2": kullback.chi2_divergence,
    "renyi": lambda p, q, **o: kullback.renyi_divergence(p, q, alpha=0.5, **o),
    "entropy": lambda p, q, **o: kullback.entropy(p, **o),
    "decompose": lambda p, q, **o: np.array(kullback.decompose(p, q, **o)),
}
CONTAINERS = ("array", "strided", "reversed", "fortran", "list", "read only", "unaligned", "memory map", "frame",
              "arrow", "polars", "csr", "coo", "masked")  # fmt: skip


def as_dtype(values, dtype):
    """Return values in a dtype, and the float64 that they become."""
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    cast = values.astype(dtype)
    return cast, cast.astype(np.float64)


def as_laid_out(array, container, folder):
    """Return a matrix in another layout or container, or the array itself where the container cannot hold it."""
    strange = array.dtype.kind in "OV" or array.dtype.itemsize > 8 or not array.dtype.isnative
    if container == "strided":
        wide = np.zeros((2 * array.shape[0], 3 * array.shape[1]), array.dtype)
        wide[::2, 1::3] = array
        return wide[::2, 1::3]
    if container == "reversed":
        return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]
    if container == "fortran":
        return np.asfortranarray(array)
    if container == "read only":
        array = array.copy()
        array.flags.writeable = False
        return array
    if container == "unaligned" and array.dtype.kind != "O":
        memory = np.zeros(array.nbytes + 1, np.uint8)
        view = memory[1:].view(array.dtype).reshape(array.shape)
        view[...] = array
        return view
    if container == "masked":
        return np.ma.masked_array(array, False)
    if container == "memory map" and array.dtype.kind in "fiub":
        mapped = np.memmap(folder / f"rows {len(list(folder.iterdir()))}", array.dtype, "w+", shape=array.shape)
        mapped[...] = array
        return mapped
    if strange:
        return array
    if container == "list":
        return array.tolist()
    names = [f"c{i}" for i in range(array.shape[1])]
    if container == "frame":
        return pytest.importorskip("pandas").DataFrame(array, columns=names)
    if container == "polars" and array.dtype != np.float16:
        return pytest.importorskip("polars").DataFrame(array, schema=names, orient="row")
    if container == "arrow":
        return pytest.importorskip("pyarrow").table({name: array[:, i] for i, name in enumerate(names)})
    if container in ("csr", "coo") and array.dtype != np.float16:
        return getattr(sparse, f"{container}_array")(array)
    return array


def draw_containers(data):
    """Draw the container of each side, as often equal ones as any two."""
    first = data.draw(st.sampled_from(CONTAINERS), "container of p")
    return first, data.draw(st.sampled_from(CONTAINERS) if data.draw(st.booleans()) else st.just(first))


def contents(value):
    """Return the bytes of what a container holds."""
    value = value.tocoo() if sparse.issparse(value) else value
    parts = (value.data, value.row, value.col) if sparse.issparse(value) else (value,)
    arrays = map(np.asarray, parts)
    return [array.tolist() if array.dtype == object else array.tobytes() for array in arrays]


@st.composite
def operands(draw):
    """Draw two matrices of probabilities, counts or logits in any dtypes, and the float64 that they stand for."""
    n_rows, n_columns = draw(st.integers(1, 40)), draw(st.sampled_from((1, 2, 3, 7, 16, 17, 33, 70, 300)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(("probabilities", "counts", "logits")))
    share_of_zeros = draw(st.sampled_from((0.0, 0.4, 0.9)))
    sides = []
    for _ in "pq":
        if kind == "logits":
            values = rng.normal(size=(n_rows, n_columns)) * draw(st.sampled_from((1e-3, 1.0, 30.0)))
        else:
            values = rng.random((n_rows, n_columns)) ** 3
            values[rng.random(values.shape) < share_of_zeros] = 0
            values[:, 0] += 0.1
            values = np.ceil(values * 50) if kind == "counts" else values / values.sum(axis=1, keepdims=True)
        dtype = draw(st.sampled_from(COUNTS if kind == "counts" else FLOATS))
        if dtype == "bool":
            values = values > 0
        if dtype == "object":
            cast = (values.astype(int) if kind == "counts" else values).astype(object)
            sides.append((cast, values.astype(float)))
        else:
            sides.append(as_dtype(values, dtype))
    return kind, sides


@PROFILE
@given(data=st.data(), drawn=operands(), name=st.sampled_from(sorted(FUNCTIONS)))
def test_inputs_of_functions_of_rows(data, drawn, name, tmp_path_factory):
    """Whatever the rows are given in, with any axis and any reduction, they have the values of float64 rows."""
    kind, ((p, wide_p), (q, wide_q)) = drawn
    options = {"from_logits": True} if kind == "logits" else {"normalize": True}
    function, n_rows = FUNCTIONS[name], len(p)
    if data.draw(st.booleans(), "one row on one side") and name != "entropy":
        q, wide_q = q[:1], wide_q[:1]
    expected = function(wide_p, wide_q, **options)
    if data.draw(st.booleans(), "one row"):
        n_rows, expected = 1, function(wide_p[:1], wide_q[:1], **options)
        p, q = p[:1], q[:1]
    folder = tmp_path_factory.mktemp("rows")
    if data.draw(st.booleans(), "columns as rows"):
        p, q, options = p.T, q.T, {**options, "axis": 0}
    if data.draw(st.booleans(), "in bits"):
        options, expected = {**options, "base": 2}, expected / (1 if name in BASELESS else np.log(2))
    weighting = data.draw(st.sampled_from(("none", "mean", "sum")), "reduction")
    if weighting != "none":
        weights = np.arange(1.0, n_rows + 1)
        options = {**options, "reduction": weighting, "weights": weights}
        expected = (expected * weights).sum(axis=-1) / (weights.sum() if weighting == "mean" else 1)
    left, right = (as_laid_out(*pair, folder) for pair in zip((p, q), draw_containers(data), strict=True))
    if isinstance(left, list) and isinstance(right, list) and name == "cross_entropy":
        left = np.array(left)
    before = contents(left), contents(right)
    found = function(left, right, **options)
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-12)
    assert (contents(left), contents(right)) == before


BASELESS = ("hellinger", "total_variation", "chi2")
"""Measures that have no unit."""


@settings(PROFILE, max_examples=max(1, N_EXAMPLES // 3))
@given(data=st.data(), drawn=operands())
def test_inputs_of_streams_and_pairs(data, drawn, tmp_path_factory):
    """Accumulators, evaluate over chunks and pairs of rows take the same containers, and mix them."""
    kind, ((p, wide_p), (q, wide_q)) = drawn
    options = {"from_logits": True} if kind == "logits" else {"normalize": True}
    folder = tmp_path_factory.mktemp("rows")
    expected = kullback.kl_divergence(wide_p, wide_q, **options).mean()
    cut = data.draw(st.integers(0, len(p)), "rows of the first chunk")
    accumulator = RowDivergence(**options)
    for rows in (slice(0, cut), slice(cut, None)):
        if len(p[rows]):
            names = draw_containers(data)
            accumulator.update(
                *(as_laid_out(side[rows], name, folder) for side, name in zip((p, q), names, strict=True))
            )
    np.testing.assert_allclose(accumulator.result().kl.mean, expected, rtol=2e-6, atol=1e-12)
    whole = [as_laid_out(*pair, folder) for pair in zip((p, q), draw_containers(data), strict=True)]
    if not any(isinstance(side, list) for side in whole):
        found = kullback.evaluate(*whole, progress=False, batch_rows=data.draw(st.integers(1, 50)), **options)
        np.testing.assert_allclose(found.kl.mean, expected, rtol=2e-6, atol=1e-12)
    if kind != "logits":
        pairs = kullback.pairwise_divergence(*whole, measure="total_variation", normalize=True)
        dense = kullback.pairwise_divergence(wide_p, wide_q, measure="total_variation", normalize=True)
        np.testing.assert_allclose(pairs, dense, rtol=2e-6, atol=1e-12)


@pytest.mark.skipif(not FUZZ.exists(), reason="an sdist does not hold the scripts of developers")
@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="the truth needs more digits than float64 has")
def test_random_scales_gaps_masks_and_orders(monkeypatch):
    """Some cases of the fuzz against 80 bits and mpmath (devel/numerics.md)."""
    monkeypatch.syspath_prepend(FUZZ.parent)
    fuzz = importlib.import_module("fuzz_divergences")
    assert fuzz.run_cases(fuzz.check_case, 150, 1) == 0
