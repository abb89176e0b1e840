"""What may be passed as probabilities, logits and rows, and what is refused with which words."""

import numpy as np
import pytest

import kullback
from kullback import reference
from kullback.readers import compare_logits
from kullback.streaming import HistogramDivergence, RowDivergence, SupportDivergence


def bfloat16_bits(values):
    """Return the upper halves of float32, and the float32 that they stand for."""
    bits = (np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(np.float32)


def test_uint16_is_bfloat16_where_logits_are_asked_for():
    """Every function, accumulator and twin reads logits of uint16 as the bits of bfloat16."""
    rng = np.random.default_rng(0)
    (bits_p, p), (bits_q, q) = (bfloat16_bits(rng.normal(size=(6, 300))) for _ in "pq")
    tokens = np.arange(6)
    order = np.argsort(-p, axis=-1)[:, :4]
    log_p = p - np.log(np.exp(p.astype(float)).sum(-1, keepdims=True))
    bits_log_p, log_p = bfloat16_bits(np.take_along_axis(log_p, order, -1))
    for call in (
        lambda p, q, _: kullback.kl_divergence(p, q, from_logits=True),
        lambda p, q, _: reference.kl_divergence(p, q, from_logits=True),
        lambda p, q, _: kullback.log_loss(tokens, q, from_logits=True, label_smoothing=0.1),
        lambda p, q, _: reference.log_loss(tokens, q, from_logits=True),
        lambda p, q, _: RowDivergence(from_logits=True).update(p, q).result().kl.mean,
        lambda p, q, _: SupportDivergence(from_logits=True).update(p[0], q[0]).result().kl,
        lambda p, q, _: kullback.evaluate(p, q, from_logits=True, progress=False).kl.mean,
        lambda p, q, _: compare_logits(p, q, tokens, progress=False).kl.mean,
        lambda p, q, logs: kullback.kl_divergence_topk(order, logs, q, tail="bucket"),
    ):
        np.testing.assert_allclose(call(bits_p, bits_q, bits_log_p), call(p, q, log_p), rtol=1e-12)
    coarse, fine = (kullback.kl_divergence_topk(order, logs, q) for logs in (bits_log_p, log_p))
    assert (coarse.lower <= fine.lower).all() and (fine.upper <= coarse.upper).all()  # limits allow for rounding
    counts = rng.integers(1, 60000, (2, 50)).astype(np.uint16)  # they are counts elsewhere
    np.testing.assert_array_equal(kullback.entropy(counts), kullback.entropy(counts.astype(np.int64)))
    found = SupportDivergence(normalize=True).update(*counts).result().kl
    assert found == SupportDivergence(normalize=True).update(*counts.astype(np.int64)).result().kl


def test_bfloat16_of_ml_dtypes_everywhere():
    """Where uint16 stands for bfloat16, the dtype of ml_dtypes is taken, too."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    bits, _ = bfloat16_bits(np.random.default_rng(1).normal(size=(2, 40)))
    p, q = bits.view(bfloat16)
    found = SupportDivergence(from_logits=True).update(p, q).result().kl
    assert found == SupportDivergence(from_logits=True).update(*bits).result().kl
    halves = np.array([0.5, 0.25, 0.2461], bfloat16)  # sums to 1 within the square root of bfloat16's eps
    assert SupportDivergence().update(halves, halves).result().kl == 0


def frames(array):
    """Return an array as the frames and arrays of other libraries."""
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    arrow = pytest.importorskip("pyarrow")
    names = [f"c{i}" for i in range(array.shape[1])]
    frame = pandas.DataFrame(array, columns=names)
    return [
        frame,
        frame.astype("Float64"),
        polars.DataFrame(array, schema=names),
        arrow.table({name: array[:, i] for i, name in enumerate(names)}),
        Exported(array),
    ]


class Exported:
    """An array that shows itself by DLPack alone, and that can be iterated as tensors can."""

    def __init__(self, array):
        self.array = array

    def __iter__(self):
        """Yield what is no row, as frames do."""
        return iter("abcd")

    def __dlpack__(self, **options):
        """Hand out the array."""
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        """Return where the array lies."""
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("kind", range(5))
def test_frames_are_arrays_before_they_are_iterables(kind):
    """A frame is its values and not its column names, on both sides, whole and as blocks."""
    p, q = np.random.default_rng(0).normal(size=(2, 6, 4))
    expected = kullback.evaluate(p, q, from_logits=True, progress=False)
    left, right = frames(p)[kind], frames(q)[kind]
    assert kullback.evaluate(left, right, from_logits=True, progress=False) == expected
    assert kullback.evaluate([left], iter([right]), from_logits=True, progress=False) == expected
    np.testing.assert_array_equal(
        kullback.kl_divergence(left, right, from_logits=True), kullback.kl_divergence(p, q, from_logits=True)
    )


def test_a_series_is_one_row():
    """A pandas Series is a vector, as a list of numbers is."""
    pandas = pytest.importorskip("pandas")
    row = [0.2, 0.8]
    for p in (row, pandas.Series(row), pandas.Series(row, dtype="Float64")):
        assert kullback.evaluate(p, [0.5, 0.5], progress=False).kl.mean == kullback.kl_divergence(row, [0.5, 0.5])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"a": [0.5, 0.5]}, "cannot read rows from dict"),
        ({0.5}, "cannot read rows from set"),
        (b"ab", "cannot read rows from bytes"),
        (3, "cannot read rows from int"),
        (["ab", "cd"], "blocks must have rows and columns, got str: 'ab'"),
        (iter([0.5, 0.5]), "blocks must have rows and columns, got float"),
        ([{"a": 1}], "a block of rows must be an array or a sequence, got a dict"),
    ],
)
def test_what_holds_no_rows_is_refused(rows, words):
    """Dicts, and iterables of anything but blocks, are refused with what came."""
    with pytest.raises(TypeError, match=words):
        kullback.evaluate(rows, np.full((1, 2), 0.5), progress=False)


MASKED = np.ma.masked_array([0.25, 0.75, 0.5], [0, 0, 1])
ROWS = np.ma.masked_array(np.arange(60.0).reshape(20, 3), np.arange(60).reshape(20, 3) == 7)


@pytest.mark.parametrize(
    "call",
    [
        lambda: kullback.entropy(MASKED),
        lambda: kullback.entropy([MASKED, MASKED]),
        lambda: kullback.kl_divergence(np.full(3, 1 / 3), MASKED),
        lambda: kullback.pairwise_divergence(ROWS),
        lambda: kullback.log_loss([0], MASKED[None]),
        lambda: kullback.log_loss(np.ma.masked_array([0, 1], [0, 1]), np.full((2, 3), 1 / 3)),
        lambda: kullback.kl_divergence([[0.5, 0.5]] * 3, [[0.5, 0.5]] * 3, weights=MASKED, reduction="sum"),
        lambda: kullback.mutual_information(ROWS),
        lambda: kullback.kl_divergence_topk([0], [-1.0], MASKED),
        lambda: kullback.differential_entropy_from_samples(ROWS),
        lambda: reference.entropy(MASKED),
        lambda: RowDivergence().update(np.full((1, 3), 1 / 3), MASKED[None]),
        lambda: SupportDivergence().update(MASKED, MASKED),
        lambda: HistogramDivergence(edges=[0.5]).update(q=MASKED),
        lambda: HistogramDivergence(categories=[1, 2]).update(q=MASKED.astype(int)),
        lambda: kullback.evaluate(MASKED, MASKED, progress=False),
        lambda: kullback.evaluate([MASKED], [MASKED], progress=False),
        lambda: kullback.affinities.perplexity(ROWS, 2),
        lambda: kullback.gradient.repulsive_forces(ROWS),
    ],
)
def test_masked_elements_are_never_read(call):
    """Where an element is masked, the array is refused with the remedy, before any work."""
    with pytest.raises(ValueError, match="must have no masked elements"):
        call()


def test_masked_arrays_without_masked_elements():
    """A masked array that masks nothing is an array, and the remedy that the message names leaves elements out."""
    with pytest.raises(ValueError, match=r"leave elements out of a distribution, pass p.filled\(0\)"):
        kullback.entropy(MASKED)
    nothing = np.ma.masked_array([0.25, 0.75])
    assert kullback.entropy(nothing) == kullback.entropy(MASKED.filled(0)) == kullback.entropy([0.25, 0.75])
    logits = np.ma.masked_array([1.0, 2.0, 9.0], [0, 0, 1]).filled(-np.inf)
    assert kullback.entropy(logits, from_logits=True) == kullback.entropy([1.0, 2.0], from_logits=True)


def test_other_numbers_are_taken():
    """Booleans, extended precision, Python's numbers and the columns of pandas count as the float64 that they are."""
    pandas = pytest.importorskip("pandas")
    expected = kullback.entropy([0.2, 0.3, 0.5])
    for row in (
        np.array([0.2, 0.3, 0.5], np.longdouble),
        np.array([0.2, 0.3, 0.5], object),
        pandas.Series([0.2, 0.3, 0.5], dtype="Float64"),
        pandas.Series([0.2, 0.3, 0.5], dtype="category"),
    ):
        assert kullback.entropy(row) == expected
        assert SupportDivergence(("entropy_p",)).update(row, row).result()["entropy_p"] == pytest.approx(expected)
    assert kullback.entropy([True, True, False]) == kullback.entropy([1, 1, 0])
    for counts in (
        pandas.Series([2, 3, 5], dtype="Int64"),
        np.array([2, np.uint8(3), 5], object),
        pandas.DataFrame({"counts": pandas.Series([2, 3, 5], dtype="Int64")}).to_numpy()[:, 0],
    ):
        assert kullback.entropy(counts) == kullback.entropy([2, 3, 5])
    flags = np.array([True, np.True_, False], object)
    assert kullback.entropy(flags) == kullback.entropy([1, 1, 0])
    huge = np.array([2**70, 2**70], object)
    assert kullback.entropy(huge, normalize=True) == kullback.entropy([0.5, 0.5])
    assert kullback.entropy(np.array([2**63, 2**63], object)) == kullback.entropy([1, 1])
    logits = np.array([np.uint16(1), np.uint16(3)], object)  # numbers, where an array of uint16 holds bfloat16
    assert kullback.entropy(logits, from_logits=True) == kullback.entropy([1.0, 3.0], from_logits=True)
    with pytest.raises(ValueError, match="p must hold probabilities >= 0, got a negative or NaN"):
        kullback.entropy(pandas.Series([0.5, None, 0.5], dtype="Float64"))


def test_what_are_no_numbers_is_refused_with_the_remedy():
    """Strings and tensors with a gradient get an error that says what to pass."""
    with pytest.raises(TypeError, match=r"p must hold real numbers, got a str: '0.5'; pass p.astype"):
        kullback.entropy(np.array(["0.5", "0.5"], object))
    with pytest.raises(TypeError, match="p must be an array or a sequence, got a dict"):
        kullback.entropy({"a": 1.0})

    class Tensor:
        requires_grad = True

        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("no numpy() on a tensor that requires grad")

    with pytest.raises(TypeError, match=r"q must be readable by NumPy, got a Tensor: .*; pass q.detach\(\)"):
        kullback.kl_divergence([0.5, 0.5], Tensor())


class Tensor:
    """What NumPy sees of a tensor of torch, in torch's words."""

    def __init__(self, values, dtype="torch.bfloat16", device="cpu", requires_grad=False):
        self.values, self.dtype, self.device, self.requires_grad = values, dtype, device, requires_grad
        self.ndim = np.ndim(values)

    def __array__(self, dtype=None, copy=None):
        """Return the values where torch does."""
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if self.device != "cpu":
            raise TypeError("can't convert cuda:0 device type tensor to numpy.")
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return np.asarray(self.values)

    def float(self):
        """Return the values as float32."""
        return Tensor(np.float32(self.values), "torch.float32", self.device, self.requires_grad)


def test_tensors_of_bfloat16_are_taken():
    """They count as bfloat16, whose sums are off one by more than those of float32, alone and in lists."""
    pytest.importorskip("ml_dtypes")
    values = [[0.5, 0.25, 0.2461], [0.2, 0.4, 0.4]]
    bits, wide = bfloat16_bits(values)
    assert (kullback.entropy(Tensor(wide)) == kullback.entropy(wide, normalize=True)).all()
    assert (kullback.entropy([Tensor(row) for row in wide]) == kullback.entropy(wide, normalize=True)).all()
    expected = kullback.kl_divergence(bits, bits[::-1], from_logits=True)
    actual = kullback.kl_divergence(Tensor(wide), Tensor(wide[::-1]), from_logits=True)
    np.testing.assert_array_equal(actual, expected)
    assert kullback.log_loss([0, 1], Tensor(wide), from_logits=True).shape == (2,)
    assert kullback.neighbors.nearest_neighbors(Tensor(wide), 1) is not None


@pytest.mark.parametrize(("state", "remedy"), [({"requires_grad": True}, "detach"), ({"device": "cuda:0"}, "cpu")])
def test_tensors_that_numpy_cannot_see_are_refused_with_the_remedy(state, remedy):
    """A gradient and a GPU are named, whatever the dtype, and in lists too."""
    for dtype in ("torch.bfloat16", "torch.float32"):
        tensor = Tensor([0.5, 0.5], dtype, **state)
        for call in (kullback.entropy, lambda p: kullback.kl_divergence(p, [0.5, 0.5]), kullback.perplexity):
            with pytest.raises(TypeError, match=rf"p must be readable by NumPy, got a Tensor: .*; pass p.{remedy}\(\)"):
                call(tensor)
        with pytest.raises(TypeError, match=rf"pass p.{remedy}\(\)"):
            kullback.entropy([tensor, tensor])


@pytest.mark.parametrize("edges", [[0.0, 1.0, np.inf], [0.0, 0.0, 1.0]])
def test_edges_that_are_refused_come_with_a_hint(edges):
    """Infinite edges and repeated quantiles are refused with what to do about them."""
    with pytest.raises(ValueError, match=r"leave out -inf and inf, as the outer bins are open.*numpy.unique"):
        HistogramDivergence(edges=edges)


def test_counts_without_a_sum_are_not_measured_by_a_tolerance():
    """Counts may have any sum but 0, and the message says so."""
    with pytest.raises(ValueError, match=r"p must sum to 1, or to more than 0 where it holds counts, got 0 in row 1$"):
        kullback.entropy([[1, 2], [0, 0]])
