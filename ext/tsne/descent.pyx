"""One fused pass of gradient descent with gains and momentum, as in t-SNE.

The update is that of van der Maaten and Hinton (2008), section 3.4, with the adaptive gains of Jacobs (1988).
``kullback.reference.descend`` is the same in NumPy. Points are handled in blocks of fixed size, and each block writes
its own sums, so the thread count changes no bit.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt

from common.threads cimport startable

cdef enum:
    BLOCK = 1024  # points: six arrays of two float32 stay in a 64 KiB L1 cache
    CHUNK = 128   # points that go through the three loops below together: each of them vectorises
BLOCK_POINTS = BLOCK


cdef struct Rates:        # see kullback.tsne.rates
    double exaggeration
    double inverse_sum_q
    double learning_rate
    double momentum
    double max_step
    double gain_step
    double gain_decay


cdef inline double take_steps(
    floating* velocity, floating* gains,                     # IN/OUT
    const floating* attraction, const floating* repulsion,   # IN
    Py_ssize_t n_values, const Rates* rates,
) noexcept nogil:
    """Update gains and velocity, whose steps may still be too long; return the squared norm of the gradient."""
    cdef Py_ssize_t v
    cdef double gradient, gain, squared_norm = 0
    cdef double attract = 4 * rates.exaggeration, repel = 4 * rates.inverse_sum_q
    for v in range(n_values):
        # van der Maaten (2014), eq. 8: four times attraction minus normalised repulsion
        gradient = attract * attraction[v] - repel * repulsion[v]
        squared_norm += gradient * gradient
        # Jacobs (1988): a gain grows while the step still goes downhill, and shrinks where it overshoots
        gain = gains[v] + rates.gain_step if gradient * velocity[v] < 0 else gains[v] * rates.gain_decay
        gain = gain if gain > 0.01 else 0.01
        gains[v] = <floating>gain
        velocity[v] = <floating>(rates.momentum * velocity[v] - rates.learning_rate * gain * gradient)
    return squared_norm


cdef inline void clip_steps(floating* steps, Py_ssize_t n_points, Py_ssize_t n_components,
                            double max_step) noexcept nogil:
    """Shorten the steps of points that would go further than ``max_step``."""
    cdef Py_ssize_t i, k
    cdef double[CHUNK] shrink
    cdef double squared, largest = 0
    for i in range(n_points):
        squared = 0
        for k in range(n_components):
            squared += <double>steps[i * n_components + k] * steps[i * n_components + k]
        shrink[i] = squared
        largest = squared if squared > largest else largest
    if not largest > max_step * max_step:
        return
    for i in range(n_points):
        shrink[i] = max_step / sqrt(shrink[i]) if shrink[i] > max_step * max_step else 1
        for k in range(n_components):
            steps[i * n_components + k] = <floating>(steps[i * n_components + k] * shrink[i])


cdef inline void move_points(
    floating* positions,  # IN/OUT
    const floating* steps, Py_ssize_t n_points, Py_ssize_t n_components, const double* centre,
    double* sums,         # IN/OUT: of the new positions
) noexcept nogil:
    """Add the steps, subtract the mean position, and sum up the new positions."""
    cdef Py_ssize_t i, k
    cdef double total
    for k in range(n_components):
        total = 0
        for i in range(n_points):
            positions[i * n_components + k] = <floating>(
                positions[i * n_components + k] + <double>steps[i * n_components + k] - centre[k])
            total += positions[i * n_components + k]
        sums[k] += total


cdef inline void descend_points(
    floating* positions, floating* velocity, floating* gains, const floating* attraction, const floating* repulsion,
    Py_ssize_t n_points, Py_ssize_t n_components,  # the latter a literal in the commonest case
    const Rates* rates, const double* centre,
    double* sums,         # IN/OUT: of the new positions, and the squared norm of the gradient
) noexcept nogil:
    """Move up to CHUNK points."""
    sums[n_components] += take_steps(velocity, gains, attraction, repulsion, n_points * n_components, rates)
    clip_steps(velocity, n_points, n_components, rates.max_step)
    move_points(positions, velocity, n_points, n_components, centre, sums)


cdef void descend_block(
    floating[:, ::1] positions, floating[:, ::1] velocity, floating[:, ::1] gains,
    const floating[:, ::1] attraction, const floating[:, ::1] repulsion,
    const Rates* rates, const double[::1] centre, Py_ssize_t block, double[:, ::1] sums_out,
) noexcept nogil:
    """Move the points of one block."""
    cdef Py_ssize_t i, n, n_components = positions.shape[1]
    cdef Py_ssize_t end = min((block + 1) * BLOCK, positions.shape[0])
    for i in range(n_components + 1):
        sums_out[block, i] = 0
    i = block * BLOCK
    while i < end:
        n = min(<Py_ssize_t>CHUNK, end - i)
        if n_components == 2:  # a literal lets the compiler vectorise the commonest case
            descend_points(&positions[i, 0], &velocity[i, 0], &gains[i, 0], &attraction[i, 0], &repulsion[i, 0],
                           n, 2, rates, &centre[0], &sums_out[block, 0])
        else:
            descend_points(&positions[i, 0], &velocity[i, 0], &gains[i, 0], &attraction[i, 0], &repulsion[i, 0],
                           n, n_components, rates, &centre[0], &sums_out[block, 0])
        i += n


def descend(
    floating[:, ::1] positions,         # IN/OUT
    floating[:, ::1] velocity,          # IN/OUT: the last step
    floating[:, ::1] gains,             # IN/OUT
    const floating[:, ::1] attraction,  # IN: of the true P, not exaggerated
    const floating[:, ::1] repulsion,   # IN: not yet divided by sum_q
    rates,                              # IN: see kullback.tsne.rates
    double[::1] centre,                 # IN/OUT: mean position, which the next pass subtracts
    double[:, ::1] sums_out,            # OUT: scratch, one row a block
    int n_threads,
):
    """Move every point one step; return the Euclidean norm of the gradient."""
    cdef Py_ssize_t block, k, n_blocks = (positions.shape[0] + BLOCK - 1) // BLOCK
    cdef Py_ssize_t n_components = positions.shape[1]
    cdef double squared_norm = 0
    cdef Rates given
    given.exaggeration, given.inverse_sum_q = rates.exaggeration, rates.inverse_sum_q
    given.learning_rate, given.momentum, given.max_step = rates.learning_rate, rates.momentum, rates.max_step
    given.gain_step, given.gain_decay = rates.gain_step, rates.gain_decay
    for block in prange(n_blocks, nogil=True, num_threads=startable(n_threads), schedule="static"):
        descend_block(positions, velocity, gains, attraction, repulsion, &given, centre, block, sums_out)
    for k in range(n_components):
        centre[k] = 0
    for block in range(n_blocks):
        for k in range(n_components):
            centre[k] += sums_out[block, k]
        squared_norm += sums_out[block, n_components]
    for k in range(n_components):
        centre[k] /= positions.shape[0]
    return sqrt(squared_norm)
