"""Logits that are far apart: sure tokens, masks, gaps up to the range of the type, at any place and temperature."""

import functools
from collections import Counter

import mpmath
import numpy as np
import pytest

import kullback
from kullback import reference

MEASURES = ("kl", "reverse_kl", "jeffreys", "cross_entropy", "entropy_p", "entropy_q", "js", "hellinger")


def spike(length, place, height, rest=0.0, dtype=np.float64):
    """Return a row of equal logits but one."""
    row = np.full(length, rest, dtype)
    row[place] = height
    return row


def logs_of(counted, temperature):
    """Return the logarithms of the probabilities of logits, each of which comes with how often it occurs."""
    largest = max(a for a, _ in counted)
    scaled = {a: (mpmath.mpf(a) - mpmath.mpf(largest)) / mpmath.mpf(temperature) for a, _ in counted if a > -np.inf}
    total = mpmath.log(mpmath.fsum(n * mpmath.exp(scaled[a]) for a, n in counted if a > -np.inf))
    return {a: scaled.get(a, mpmath.mpf("-inf")) - total for a, _ in counted}


@functools.cache
def exact_of(pairs, temperature):
    """Return the measures of one row by mpmath.

    A probability below the range of float64 has no weight, even where the other side is masked.
    """
    with mpmath.workdps(340):
        log_p = logs_of([(a, n) for (a, _), n in pairs], temperature)
        log_q = logs_of([(b, n) for (_, b), n in pairs], temperature)
        sums = dict.fromkeys(MEASURES, mpmath.mpf(0))
        for (a, b), n in pairs:
            s, t, p, q = log_p[a], log_q[b], n * mpmath.exp(log_p[a]), n * mpmath.exp(log_q[b])
            log_m = mpmath.log((p + q) / 2 / n) if p + q > 0 else 0
            if p > 1e-323:
                sums["kl"] += p * (s - t)
                sums["cross_entropy"] -= p * t
                sums["entropy_p"] -= p * s
                sums["js"] += p * (s - log_m) / 2
            if q > 1e-323:
                sums["reverse_kl"] += q * (t - s)
                sums["entropy_q"] -= q * t
                sums["js"] += q * (t - log_m) / 2
            sums["hellinger"] += (mpmath.sqrt(p) - mpmath.sqrt(q)) ** 2 / 2
        sums["jeffreys"] = sums["kl"] + sums["reverse_kl"]
        sums["hellinger"] = mpmath.sqrt(sums["hellinger"])
        return {name: float(value) for name, value in sums.items()}


def exact(x, y, temperature=1.0):
    """Return the measures of one row."""
    return exact_of(tuple(Counter(zip(x.tolist(), y.tolist(), strict=True)).items()), temperature)


def check(x, y, temperature=1.0):
    """Compare kernel and twin with mpmath, all measures at once and each alone."""
    expected = exact(x, y, temperature)
    options = {"from_logits": True, "temperature": temperature}
    together = kullback.compare(x, y, MEASURES, **options)
    twins = reference.compare(x, y, MEASURES, **options)
    for name in MEASURES:
        # sums of equal terms round by up to 1e-6 and 4e-12; the mass of a row, which is near 1, and probabilities by
        # what their type leaves of 1; and pairs that are masked in a pass count as exp(-707)
        rtol, rounding = (2e-6, 4e-7) if x.dtype == np.float32 else (5e-12, 1e-29)
        atol = rounding if name.startswith("entropy") else 1e-15 if name in ("js", "hellinger") else 1e-280
        alone = kullback.compare(x, y, (name,), **options)[name]
        np.testing.assert_allclose(together[name], expected[name], rtol=rtol, atol=atol, err_msg=name)
        np.testing.assert_allclose(alone, expected[name], rtol=rtol, atol=atol, err_msg=name)
        np.testing.assert_allclose(twins[name], expected[name], rtol=1e-11, atol=min(atol, 1e-15), err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lengths", [(1025, 1024), (2000, 1999), (1024, 1023), (70, 3), (3, 0), (70_000, 66_000)])
@pytest.mark.parametrize(("p", "q"), [(100, 50), (30, 0), (0, 30), (740, 0), (0, 740), (1e4, 1e4 - 30), (88, -88)])
def test_a_sure_token_of_either_side(at_level, dtype, lengths, p, q):
    """Its probability is nearly 1 on one side or both, and it is not where the first block could tell."""
    length, place = lengths
    check(spike(length, place, p, dtype=dtype), spike(length, place, q, dtype=dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [2, 17, 1025, 5000])
@pytest.mark.parametrize("gap", [20, 300, 740, 1e4])
def test_sides_that_are_sure_of_different_tokens(at_level, dtype, length, gap):
    """KL is the gap, and no difference of masses hides it."""
    first, last = spike(length, 0, gap, dtype=dtype), spike(length, -1, gap, dtype=dtype)
    check(first, last)
    check(last, first, temperature=0.5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [3, 100, 3000])
@pytest.mark.parametrize("masks", [(-1e4, -np.inf), (-1e4, float(np.finfo(np.float32).min)), (-1e9, -1e4), (-1e4, -50)])
def test_masks_of_different_kinds(at_level, dtype, length, masks):
    """What has no weight in float64 adds nothing, whichever number masks it on the other side."""
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, length).astype(dtype)
    y = (x + rng.integers(-1, 2, length)).astype(dtype)
    x[1::3], y[1::3] = masks
    check(x, y)
    check(y, x)
    x[0], y[0] = 300, -np.inf  # the first logit of p has nearly all of the mass
    assert kullback.kl_divergence(x, y, from_logits=True) == np.inf
    assert kullback.chi2_divergence(x, y, from_logits=True) == np.inf
    assert kullback.jeffreys_divergence(y, x, from_logits=True) == np.inf
    assert kullback.kl_divergence(y, x, from_logits=True) < np.inf


def test_a_mask_before_the_largest_logit_adds_no_infinity(at_level):
    """The first block of p holds a mask of -1e4 only, which is the largest logit there, against -inf."""
    x, y = spike(3000, -1, 0.0, rest=-1e4), spike(3000, -1, 0.0, rest=-np.inf)
    assert kullback.kl_divergence(x, y, from_logits=True) == 0
    assert kullback.kl_divergence(y, x, from_logits=True) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [1e-3, 0.7, 1.0, 100.0])
def test_any_row_against_mpmath(at_level, dtype, temperature):
    """Rows with one sure token or several, offsets and masks, in any block."""
    rng = np.random.default_rng(int(temperature * 1000))
    for length in (2, 40, 1024, 1025, 3000):
        for _ in range(6):
            x = rng.integers(-1, 2, length) * rng.choice([1.0, 5.0])
            y = x + rng.integers(-1, 2, length) * rng.choice([0.0, 1.0, 4.0])
            for row in (x, y):
                for place in rng.integers(length, size=2) * rng.integers(2, size=2):
                    row[place] += rng.choice([0, 20, 50, 300, 800])
                row += rng.choice([0, 0, 30, -300])
            check(x.astype(dtype), y.astype(dtype), temperature)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [10, 3000])
def test_infinite_logits_and_nan_are_errors(at_level, dtype, length):
    """A q of +inf is one as well as a p of +inf."""
    good = spike(length, 0, 1.0, dtype=dtype)
    for bad in (np.inf, np.nan):
        for place in (1, -1):
            wrong = good.copy()
            wrong[place] = bad
            with pytest.raises(ValueError, match=r"p must hold logits < inf.*got a NaN or \+inf"):
                kullback.kl_divergence(wrong, good, from_logits=True)
            with pytest.raises(ValueError, match=r"q must hold logits < inf.*got a NaN or \+inf"):
                kullback.kl_divergence(good, wrong, from_logits=True)
    with pytest.raises(ValueError, match="q must hold logits"):
        kullback.kl_divergence(good, np.full(length, -np.inf, dtype), from_logits=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_differ_by_a_constant_have_no_divergence(at_level, dtype):
    """The offset is far above the rounding of the differences, and the temperature scales it up."""
    x = np.random.default_rng(0).integers(-4, 5, (3, 2000)).astype(dtype)
    for offset in (0, 30, -4096, 65536):
        for temperature in (1e-3, 1.0, 100.0):
            values = kullback.compare(
                x, x + dtype(offset), (*MEASURES, "total_variation"), from_logits=True, temperature=temperature
            )
            for name in ("kl", "reverse_kl", "jeffreys", "js"):
                np.testing.assert_allclose(values[name], 0, atol=1e-25, err_msg=name)
            np.testing.assert_allclose(values["total_variation"], 0, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [2, 5, 40, 300])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_measures_of_an_order_against_long_double(at_level, dtype, length, temperature):
    """Of weights down to the smallest of float64, and at offsets at which float32 knows masses to few digits."""
    rng = np.random.default_rng(length)
    p, q = rng.normal(size=(60, length)), 10 * rng.normal(size=(60, length)) - 9254.7
    for side in (p, q):
        side[:, -1] += rng.uniform(0, 510 * temperature, 60)
        side[:, -1:0:-3] -= rng.choice([0, 250 * temperature, 510 * temperature], 60)[:, None]
    p, q = p.astype(dtype), q.astype(dtype)
    log_p, log_q = (log_shares(side, temperature) for side in (p, q))
    whole = (log_p > -740).all(axis=1) & (log_q > -740).all(axis=1)  # float64 has a number for each weight
    p, q, log_p, log_q = (side[whole] for side in (p, q, log_p, log_q))
    assert len(p) > 10
    for alpha in (1e-3, 0.3, 2.0, 7.0, -0.5, np.inf):
        for name, expected in measures_of_order(log_p, log_q, alpha).items():
            rows = (p,) if name.endswith("entropy") else (p, q)
            options = {} if name == "chi2_divergence" else {"alpha": alpha}
            for module in (kullback, reference):
                values = getattr(module, name)(*rows, **options, from_logits=True, temperature=temperature)
                known = (expected > 1e-3) & (expected < 1e200)  # below, the truth loses digits
                np.testing.assert_allclose(values[known], expected[known].astype(float), rtol=4e-12, err_msg=name)
                assert np.all(values[expected < 1e-9] < 2e-9), name
                assert np.all(values[expected > 1e290] > 1e280), name


def log_shares(logits, temperature):
    """Return the logarithms of the probabilities of rows in long double."""
    below = (logits.astype(np.longdouble) - logits.max(axis=1, keepdims=True)) / np.longdouble(temperature)
    return below - np.log(np.exp(below).sum(axis=1, keepdims=True))


def measures_of_order(log_p, log_q, alpha):
    """Return the measures of an order alpha from logarithms of probabilities."""
    if alpha == np.inf:
        return {"renyi_divergence": (log_p - log_q).max(axis=1)}
    powers = np.logaddexp.reduce(alpha * log_p + (1 - alpha) * log_q, axis=1)
    less_one = np.expm1(np.minimum(powers, 11000))
    measures = {"alpha_divergence": less_one / (alpha * (alpha - 1))}
    if alpha > 0:
        own = np.logaddexp.reduce(alpha * log_p, axis=1)
        measures |= {"renyi_divergence": powers / (alpha - 1), "renyi_entropy": own / (1 - alpha)}
        measures |= {"tsallis_entropy": np.expm1(own) / (1 - alpha)}
    return measures | ({"chi2_divergence": less_one} if alpha == 2 else {})


@pytest.mark.parametrize("length", [3, 64, 300])
def test_reverse_kl_of_masks_at_large_offsets(at_level, length):
    """Of float64 logits at a low temperature, where q has weight on what is masked in p."""
    rng = np.random.default_rng(length)
    p, q = 1e-3 * rng.normal(size=(40, length)), 1e-3 * rng.normal(size=(40, length)) - 1e4
    p[:, ::3] = -1e9
    found = kullback.compare(p, q, ["reverse_kl"], from_logits=True, temperature=1e-3)["reverse_kl"]
    log_p, log_q = log_shares(p, 1e-3), log_shares(q, 1e-3)
    np.testing.assert_allclose(found, (np.exp(log_q) * (log_q - log_p)).sum(axis=1).astype(float), rtol=5e-12)


def sum_of_powers(x, y, alpha):
    """Return the sum of p^alpha q^(1 - alpha) less one by mpmath; y of None counts as q = 1."""
    log_p = logs_of([(a, 1) for a in x], 1.0)
    log_q = logs_of([(b, 1) for b in y], 1.0) if y is not None else dict.fromkeys(x, mpmath.mpf(0))
    alpha = mpmath.mpf(alpha)
    pairs = zip(x, x if y is None else y, strict=True)
    return mpmath.fsum(mpmath.exp(alpha * log_p[a] + (1 - alpha) * log_q[b]) for a, b in pairs) - 1


@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 0.03, 0.5, 0.999, 1.001, 2.0, 10.0])
def test_weights_at_the_end_of_the_range(at_level, alpha):
    """A weight for which float64 has few digits counts in full, where a power of it is no smaller than all that counts.

    The measures of an order are then small and large: neither the sums of probabilities nor the logarithm of the sum
    of powers has them.
    """
    rng = np.random.default_rng(31)
    with mpmath.workdps(60):
        for _ in range(40):
            x = rng.normal(size=int(rng.integers(2, 6)))
            y = x + rng.normal(size=len(x)) * rng.choice([1e-6, 1e-3, 1])
            for side in (x, y):
                side[0] += rng.choice([0, 5, 20, 690, 710, 733, 738])
                side[-1] -= rng.choice([0, 0, 5, 20, 710, 735])
            if any((side - side.max()).min() < -744 for side in (x, y)):
                continue  # float64 has no digit for such a weight
            paired, alone = sum_of_powers(x, y, alpha), sum_of_powers(x, None, alpha)
            for name, rows, expected in (
                ("renyi_divergence", (x, y), mpmath.log1p(paired) / (alpha - 1)),
                ("alpha_divergence", (x, y), paired / (mpmath.mpf(alpha) * (alpha - 1))),
                ("renyi_entropy", (x,), mpmath.log1p(alone) / (1 - alpha)),
                ("tsallis_entropy", (x,), alone / (1 - alpha)),
            ):
                expected, atol = float(expected), 1e-29 + 2e-15 * float(abs(expected)) ** 0.5  # rounded rows differ so
                for module in (kullback, reference):
                    found = getattr(module, name)(*rows, alpha=alpha, from_logits=True)
                    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=atol if len(rows) > 1 else 1e-29)


def test_weights_below_the_range_have_no_entropy(at_level):
    """They count as masked at every order, beside weights at the end of the range too."""
    row = np.array([761.0, 738.0, 1.6, 1.4, 0.0])
    masked = np.where(row > 20, row, -np.inf)
    for alpha in (1e-6, 0.03, 0.5, 2):
        for name in ("renyi_entropy", "tsallis_entropy"):
            for module in (kullback, reference):
                call = getattr(module, name)
                assert call(row, alpha=alpha, from_logits=True) == pytest.approx(
                    call(masked, alpha=alpha, from_logits=True), rel=1e-13, abs=0
                )


@pytest.mark.parametrize("measures", [["js"], ["js", "kl"], ["reverse_kl", "js"], ["js_distance", "chi2"]])
def test_jensen_shannon_of_far_rows_whose_rounding_does_not_average(at_level, measures):
    """All tokens but one round alike, and the sure one comes first, so that float32 sums lose what the others add."""
    p, q = spike(1025, 0, 50, 30, np.float32), np.full(1025, 30, np.float32)
    for gap in (0, 1, 5, 10):
        found = kullback.compare(p, q, measures, from_logits=True, temperature=2.0)
        expected = reference.compare(p, q, measures, from_logits=True, temperature=2.0)
        for name in measures:
            assert found[name] == pytest.approx(expected[name], rel=1e-6, abs=0), (name, gap)
        p[0] += 1


@pytest.mark.parametrize("rest", [0.0, -300.0, -700.0, -1000.0])
def test_total_variation_of_sure_rows(at_level, rest):
    """It is the sum of what the other tokens have, which their sum with the sure one has lost."""
    rng = np.random.default_rng(5)
    for length in (40, 1024, 1025, 5000):
        q = rng.normal(size=length)
        q[0] = 40
        p = np.full(length, rest - 1)
        p[0] = 40
        shares = [np.exp(log_shares(side[None], 1.0))[0, 1:] for side in (p, q)]
        difference = shares[0] - shares[1]
        expected = float(np.abs(difference).sum() + abs(difference.sum())) / 2
        found = kullback.total_variation_distance(p, q, from_logits=True)
        assert found == pytest.approx(expected, rel=1e-12, abs=0)
        assert kullback.total_variation_distance(q, p, from_logits=True) == found
        rows = [np.exp(side - 40) for side in (p, q)]
        assert kullback.total_variation_distance(*rows, normalize=True) == pytest.approx(expected, rel=1e-12, abs=0)
