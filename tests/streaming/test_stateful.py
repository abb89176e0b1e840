"""A machine that updates, merges and serialises in any order, and compares with math.fsum."""

import math
import pickle
from fractions import Fraction

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from kullback.divergence import kl_divergence
from kullback.streaming import RowDivergence

OPTIONS = {"quantiles": (0.25, 0.5), "groups": True, "normalize": True}
WEIGHTS = (None, 0.0, 0.125, 1.0, 3.0, 1e-3)


class Accumulators(RuleBasedStateMachine):
    """Pairs of an accumulator and the list of rows that it must have seen."""

    pairs = Bundle("pairs")

    @rule(target=pairs)
    def new(self):
        """Begin with nothing."""
        return (RowDivergence(**OPTIONS), [])

    @rule(pair=pairs, seed=st.integers(0, 2**20), n=st.integers(0, 5), group=st.integers(-1, 2),
          weight=st.sampled_from(WEIGHTS), scale=st.sampled_from([0.0, 1e-9, 1.0, 300.0]),
          infinite=st.booleans())  # fmt: skip
    def update(self, pair, seed, n, group, weight, scale, infinite):
        """Add rows of one group and weight: equal, nearly equal, ordinary, far apart or infinite ones."""
        rng = np.random.default_rng(seed)
        a = rng.normal(size=(n, 4))
        b = a + scale * rng.normal(size=(n, 4))
        p, q = (np.exp(x - x.max(-1, keepdims=True)) for x in (a, b))
        if infinite:
            q[:, 0] = 0
        weights = None if weight is None else np.full(n, weight)
        pair[0].update(p, q, weights=weights, group=group)
        values = kl_divergence(p, q, normalize=True)
        pair[1].extend((float(v), 1.0 if weight is None else weight, group) for v in values if weight != 0)

    @rule(target=pairs, left=pairs, right=pairs)
    def merge(self, left, right):
        """Merge into a new accumulator, which leaves both sides as they are."""
        return (left[0] + right[0], left[1] + right[1])

    @rule(left=pairs, right=pairs)
    def merge_in_place(self, left, right):
        """Merge into the left accumulator, which may also be the right one."""
        if len(left[1]) + len(right[1]) < 200:
            left[0].merge(right[0])
            left[1].extend(list(right[1]))

    @rule(target=pairs, pair=pairs, way=st.sampled_from(["state", "pickle", "copy"]))
    def travel(self, pair, way):
        """Replace an accumulator by what comes back from its serialised form."""
        acc = pair[0]
        twin = {"state": lambda: RowDivergence.from_state(acc.to_state()),
                "pickle": lambda: pickle.loads(pickle.dumps(acc)), "copy": acc.copy}[way]()  # fmt: skip
        assert twin == acc
        return multiple((twin, list(pair[1])))

    @rule(pair=pairs)
    def reset(self, pair):
        """Reset an accumulator."""
        pair[0].reset()
        pair[1].clear()

    @rule(pair=pairs)
    def check(self, pair):
        """Compare everything with the list of rows."""
        result = pair[0].result()
        compare(result.kl, [(v, w) for v, w, _ in pair[1]])
        for label, group in result.groups.items():
            compare(group["kl"], [(v, w) for v, w, g in pair[1] if g == label])
        assert {g for _, _, g in pair[1]} <= set(result.groups)

    @invariant()
    def nothing_more(self):
        """Every rule above leaves its accumulators usable."""


def compare(found, rows):
    """Compare statistics with those of math.fsum and of fractions."""
    finite = [(v, w) for v, w in rows if math.isfinite(v)]
    assert found.n_rows == len(rows)
    assert found.n_infinite == len(rows) - len(finite)
    assert found.n_zero == sum(v == 0 for v, _ in finite)
    if not finite:
        return
    products, weights = [v * w for v, w in finite], [w for _, w in finite]
    assert found.total_weight == math.fsum(weights)
    # fsum rounds each sum once, and their quotient once more
    mean = math.fsum(products) / math.fsum(weights)
    assert abs(found.mean_finite - mean) <= 2 * math.ulp(mean)
    assert found.min == (min(v for v, _ in finite))
    assert found.max == max(v for v, _ in rows)
    if len(finite) > 1:
        exact = sum(map(Fraction, products)) / sum(map(Fraction, weights))
        spread = sum((Fraction(x) - exact * Fraction(w)) ** 2 for x, w in zip(products, weights, strict=True))
        error = math.sqrt(spread * Fraction(len(finite), len(finite) - 1)) / math.fsum(weights)
        if not found.n_infinite:
            assert abs(found.standard_error - error) <= 4 * math.ulp(error)
    for probability, value in found.quantiles.items():
        expected = sorted(v for v, _ in rows)[max(1, math.ceil(probability * len(rows))) - 1]
        assert value == expected or abs(value / expected - 1) <= 2**-11


Accumulators.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAccumulators = Accumulators.TestCase
