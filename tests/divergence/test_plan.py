"""Plans: vectors and rows of any number of axes take different ways into the kernel and give the same bits."""

import numpy as np
import pytest

from kullback.divergence._plan import SERIAL_ELEMENTS, Plan, align_rows, check_distribution, kernel, reduction_of

NAMES = ("kl", "reverse_kl", "entropy_p", "js", "hellinger", "top1_agreement")


def values_of_rows(plan, p, q, **options):
    """Return what the plan gives for arrays, with elements last."""
    from_logits = plan.from_logits
    operands = check_distribution(p, "p", from_logits), check_distribution(q, "q", from_logits)
    return plan.of_rows(align_rows(*operands, -1, ("p", "q")), **options)


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 2, 7, 16, 64, 65, 128, 129, 1025, 4097])
def test_vectors_give_the_bits_of_rows(at_level, draw, length, dtype, from_logits):
    """A vector alone, and as the only row of an array, has the same values."""
    p, q = draw(length, dtype, 1), draw(length, dtype, 2)
    if from_logits:
        p, q = np.log(p), np.log(q)
    plan = Plan(NAMES, from_logits=from_logits)
    expected = values_of_rows(plan, p, q)[:, 0]
    for _ in range(2):  # the second call takes what the first has prepared
        assert plan.of_vectors(p, q).tobytes() == expected.tobytes()


def test_what_vectors_leave_to_rows(draw):
    """Other shapes, other dtypes, long vectors and vectors that fail the check."""
    plan, p = Plan(NAMES), draw(5)
    assert plan.of_vectors(p[None], p[None]) is None
    assert plan.of_vectors(p, p[:4]) is None
    assert plan.of_vectors(p, list(p)) is None
    assert plan.of_vectors(p.astype(np.float16), p) is None
    assert plan.of_vectors(*2 * [draw(SERIAL_ELEMENTS)]) is None
    assert plan.of_vectors(2 * p, p) is None
    assert plan.of_vectors(p, p) is not None


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 128, 129, 4096, SERIAL_ELEMENTS - 1])
def test_scratch_of_a_vector(length, from_logits):
    """No vector needs more scratch than every thread keeps."""
    elements = [check_distribution(np.empty(1, name), "p")[1:] for name in ("float32", "float64")]
    reduction = reduction_of(NAMES, *elements, 1.0, 2, 0.0, from_logits, 1.0, 0.0)
    vector = np.empty(length)
    assert reduction.scratch_size(vector, vector, 1) <= kernel.vector_scratch_size()


def test_axes_that_do_not_merge(at_level, draw):
    """Four and more axes, of which none lie like one, give the values of their rows one by one."""
    whole = draw((3, 4, 5, 6, 7), seed=1), draw((3, 4, 5, 6, 7), seed=2)
    p, q = (x.swapaxes(0, 2)[:, ::2, :, ::-1] for x in whole)
    plan = Plan(NAMES)
    values = values_of_rows(plan, p, q, n_threads=2).reshape(len(NAMES), *p.shape[:-1])
    for index in np.ndindex(*p.shape[:-1]):
        assert values[:, *index].tobytes() == plan.of_vectors(p[index], q[index]).tobytes()


def test_too_many_measures():
    """The kernel holds sums for so many measures and no more."""
    with pytest.raises(ValueError, match="measures must name at most 20, got 21"):
        reduction_of(("kl",) * 21, (1, 0.0), (1, 0.0), 1.0, 2, 0.0, False, 1.0, 0.0)
