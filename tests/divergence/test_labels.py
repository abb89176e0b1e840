"""Losses of classes: scikit-learn's forms of labels and predictions, and where they are refused."""

import mpmath
import numpy as np
import pytest

import kullback
from kullback import reference

Y = np.array([0, 1, 1, 0, 1])
P = np.array([0.1, 0.8, 0.6, 0.3, 0.99])
NAMES = np.where(Y, "spam", "ham")


def forms():
    """Return the same five classes as people have them."""
    pandas = pytest.importorskip("pandas")
    return {
        "integers": Y,
        "booleans": Y.astype(bool),
        "minus_one": 2 * Y - 1,
        "one_and_two": (Y + 1).astype(np.uint8),
        "strings": NAMES,
        "objects": NAMES.astype(object),
        "list": NAMES.tolist(),
        "series": pandas.Series(NAMES),
        "categories": pandas.Categorical(NAMES),
        "nullable": pandas.Series(Y, dtype="Int64"),
        "object_booleans": np.array(Y.astype(bool).tolist(), object),
    }


@pytest.mark.parametrize("form", list(forms()))
@pytest.mark.parametrize("shape", ["vector", "column", "two_columns", "odds"])
def test_binary_loss_is_that_of_scikit_learn(form, shape):
    """Classes of any names, and predictions as the probability of the second class or of both."""
    metrics = pytest.importorskip("sklearn.metrics")
    y = forms()[form]
    p = {"vector": P, "column": P[:, None], "two_columns": np.stack([1 - P, P], 1), "odds": np.log(P / (1 - P))}[shape]
    weights = np.array([1.0, 2, 0, 3, 1])
    for options in ({}, {"weights": weights}):
        actual = kullback.log_loss(y, p, reduction="mean", from_logits=shape == "odds", **options)
        expected = metrics.log_loss(Y, np.stack([1 - P, P], 1), sample_weight=options.get("weights"))
        assert actual == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("seed", range(20))
def test_several_classes_are_those_of_scikit_learn(seed):
    """Strings and other integers stand for the columns in ascending order; ``labels`` names those that do not occur."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    n_classes = int(rng.integers(3, 7))
    p = rng.dirichlet(np.ones(n_classes), 40)
    y = np.r_[np.arange(n_classes), rng.integers(0, n_classes, 40 - n_classes)]
    for names in (np.arange(n_classes), 10 - 3 * np.arange(n_classes)[::-1], np.array(list("bdfhjl"))[:n_classes]):
        expected = metrics.log_loss(names[y], p)
        assert kullback.log_loss(names[y], p, reduction="mean") == pytest.approx(expected, rel=1e-13)
        few = names[y[:2]]
        expected = metrics.log_loss(few, p[:2], labels=names)
        assert kullback.log_loss(few, p[:2], labels=names, reduction="mean") == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2, "base": 2}, {"ignore_index": 1}, {"smoothing": 0.1}])
def test_one_column_is_two(options):
    """Every option of two columns holds for one; the twin agrees."""
    two = np.stack([1 - P, P], 1)
    actual = kullback.log_loss(Y, P, **options)
    np.testing.assert_allclose(actual, kullback.log_loss(Y, two, **options), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(actual, reference.log_loss(Y, P, **options), rtol=1e-14, atol=1e-15)
    if "smoothing" not in options:
        odds = np.log(P) - np.log1p(-P)
        actual = kullback.log_loss(Y, 2 * odds, from_logits=True, temperature=2, **options)
        expected = reference.log_loss(Y, 2 * odds, from_logits=True, temperature=2, **options)
        np.testing.assert_allclose(actual, expected, rtol=1e-14)
    assert kullback.log_loss(Y, P, keepdims=True).shape == (5, 1)


@pytest.mark.parametrize("p", [1e-300, 1e-20, 1e-9, 0.5, 1 - 2.0**-53])
def test_binary_loss_against_mpmath(p):
    """Neither a small probability nor its complement loses a digit."""
    with mpmath.workdps(400):
        expected = [-mpmath.log(1 - mpmath.mpf(p)), -mpmath.log(mpmath.mpf(p))]
        odds = float(mpmath.log(mpmath.mpf(p) / (1 - mpmath.mpf(p))))
        of_odds = [mpmath.log(1 + mpmath.exp(s * mpmath.mpf(odds))) for s in (1, -1)]
    np.testing.assert_allclose(kullback.log_loss([0, 1], [p, p]), [float(x) for x in expected], rtol=1e-15)
    actual = kullback.log_loss([0, 1], [odds, odds], from_logits=True)
    np.testing.assert_allclose(actual, [float(x) for x in of_odds], rtol=1e-15)


def test_certain_predictions():
    """A certain prediction costs nothing where it is right and is infinite where it is wrong; nothing is clipped."""
    np.testing.assert_array_equal(kullback.log_loss([0, 1, 0, 1], [0.0, 1.0, 1.0, 0.0]), [0, 0, np.inf, np.inf])


def test_rows_that_are_left_out_are_not_checked():
    """Padding has no class and no probability."""
    y, where = [0, -1, 1], np.array([True, False, True])
    for p in ([0.25, np.nan, 0.5], [[0.75, 0.25], [np.nan, 2.0], [0.5, 0.5]]):
        expected = [-np.log(0.75), np.nan, np.log(2)]
        np.testing.assert_allclose(kullback.log_loss(y, p, where=where), expected)
        np.testing.assert_allclose(kullback.log_loss(y, p, ignore_index=-1), expected)
    labels = np.where(where, y, 99)
    loss = kullback.cross_entropy(labels, np.full((3, 2), 0.5), where=where, reduction="mean")
    assert loss == pytest.approx(np.log(2))


HALVES = np.full((4, 3), 1 / 3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: kullback.log_loss(["a", "a"], [0.1, 0.2]), ValueError, "of the 2 classes, got 1: a; pass labels"),
        (lambda: kullback.log_loss([3, 3], [0.1, 0.2]), ValueError, "of the 2 classes, got 1: 3; pass labels"),
        (lambda: kullback.log_loss([0, 5, 1], [0.1, 0.2, 0.3]), ValueError, "got 3: 0, 1, 5"),
        (lambda: kullback.log_loss(["a", "b"], [0.1, 0.2], labels=["b", "a"]), ValueError, "distinct and ascend"),
        (lambda: kullback.log_loss(["a", "b"], [0.1, 0.2], labels=["a", "b", "c"]), ValueError, "labels must be 2"),
        (lambda: kullback.log_loss(["a", "c"], [0.1, 0.2], labels=["a", "b"]), ValueError, "labels name, got 'c'"),
        (lambda: kullback.log_loss([1, 2], [0.1, 0.2], labels=["a", "b"]), TypeError, "strings as labels does"),
        (lambda: kullback.log_loss(["a", None], [0.1, 0.2]), TypeError, "strings alone where it holds any, got None"),
        (lambda: kullback.log_loss(Y, 2 * P), ValueError, r"second class, in \[0, 1\], got 1.6 in row 1"),
        (lambda: kullback.log_loss(Y.astype(float), P), ValueError, r"pass y.astype\(int\)"),
        (lambda: kullback.log_loss([0.0, 1.0], HALVES[:2]), ValueError, r"pass y.astype\(int\)"),
        (lambda: kullback.log_loss(Y, HALVES), ValueError, "labels must have one entry a row"),
        (lambda: kullback.log_loss([0.2, 0.8], [0.3, 0.7], labels=[0, 1]), ValueError, "need classes in y"),
        (lambda: kullback.log_loss(Y, P, axis=None), TypeError, "axis must be an int where there are labels"),
        (lambda: kullback.cross_entropy([2, 3, 5], HALVES), ValueError, "one entry a row.*counts.*as many axes"),
        (lambda: kullback.cross_entropy([2, 3, 5], HALVES[:3]), ValueError, "labels must be in.*counts.*as many axes"),
    ],
)
def test_classes_that_are_refused(call, error, words):
    """What is no class, or might be something else, is refused with what to pass."""
    with pytest.raises(error, match=words):
        call()


def test_counts_for_every_row():
    """The remedy of the message gives what kl_divergence gives."""
    counts, q = np.array([2, 3, 5]), np.random.default_rng(0).dirichlet(np.ones(3), 4)
    parts = kullback.entropy(counts) + kullback.kl_divergence(counts, q)
    np.testing.assert_allclose(kullback.cross_entropy(counts[None], q), parts, rtol=1e-14)
