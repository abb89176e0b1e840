"""One fused pass of gradient descent with gains and momentum, as in t-SNE.

The update is that of van der Maaten and Hinton (2008), section 3.4, with the adaptive gains of
Jacobs (1988); ``kullback.reference.descend`` states it in NumPy. Points are handled in blocks of
fixed size; each block writes its own sums, so the thread count changes no bit.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt

cdef enum:
    BLOCK = 1024  # points: six arrays of two float32 stay in a 64 KiB L1 cache
BLOCK_POINTS = BLOCK


cdef inline void descend_point(
    floating* position,          # IN/OUT, one row
    floating* velocity,          # IN/OUT
    floating* gains,             # IN/OUT
    const floating* attraction,  # IN
    const floating* repulsion,   # IN
    Py_ssize_t n_components,
    const double* rates,         # IN: exaggeration, 1 / sum_q, learning rate, momentum, largest step
    const double* centre,        # IN
    double* sums,                # IN/OUT: new positions, then the squared gradient
) noexcept nogil:
    cdef Py_ssize_t k
    cdef double gradient, gain, step, squared_step = 0, shrink = 1
    for k in range(n_components):
        # van der Maaten (2014), eq. 8: four times attraction minus normalised repulsion
        gradient = 4 * (rates[0] * attraction[k] - rates[1] * repulsion[k])
        sums[n_components] += gradient * gradient
        # Jacobs (1988): a gain grows while the step still goes downhill, and shrinks where it overshoots
        gain = gains[k] + 0.2 if gradient * velocity[k] < 0 else gains[k] * 0.8
        if gain < 0.01:
            gain = 0.01
        gains[k] = <floating>gain
        step = rates[3] * velocity[k] - rates[2] * gain * gradient
        velocity[k] = <floating>step
        squared_step += step * step
    if squared_step > rates[4] * rates[4]:
        shrink = rates[4] / sqrt(squared_step)
    for k in range(n_components):
        velocity[k] = <floating>(velocity[k] * shrink)
        position[k] = <floating>(position[k] + velocity[k] - centre[k])
        sums[k] += position[k]


cdef void descend_block(
    floating[:, ::1] positions, floating[:, ::1] velocity, floating[:, ::1] gains,
    const floating[:, ::1] attraction, const floating[:, ::1] repulsion,
    const double[::1] rates, const double[::1] centre, Py_ssize_t block, double[:, ::1] sums_out,
) noexcept nogil:
    cdef Py_ssize_t i, n_components = positions.shape[1]
    cdef Py_ssize_t end = min((block + 1) * BLOCK, positions.shape[0])
    for i in range(n_components + 1):
        sums_out[block, i] = 0
    for i in range(block * BLOCK, end):
        if n_components == 2:  # a literal lets the compiler unroll the commonest case
            descend_point(&positions[i, 0], &velocity[i, 0], &gains[i, 0], &attraction[i, 0],
                          &repulsion[i, 0], 2, &rates[0], &centre[0], &sums_out[block, 0])
        else:
            descend_point(&positions[i, 0], &velocity[i, 0], &gains[i, 0], &attraction[i, 0],
                          &repulsion[i, 0], n_components, &rates[0], &centre[0], &sums_out[block, 0])


def descend(
    floating[:, ::1] positions,         # IN/OUT
    floating[:, ::1] velocity,          # IN/OUT: the last step
    floating[:, ::1] gains,             # IN/OUT
    const floating[:, ::1] attraction,  # IN: of the true P, not exaggerated
    const floating[:, ::1] repulsion,   # IN: not yet divided by sum_q
    const double[::1] rates,            # IN: exaggeration, 1 / sum_q, learning rate, momentum, largest step
    double[::1] centre,                 # IN/OUT: mean position, which the next pass subtracts
    double[:, ::1] sums_out,            # OUT: scratch, one row a block
    int n_threads,
):
    """Move every point one step; return the Euclidean norm of the gradient."""
    cdef Py_ssize_t block, k, n_blocks = (positions.shape[0] + BLOCK - 1) // BLOCK
    cdef Py_ssize_t n_components = positions.shape[1]
    cdef double squared_norm = 0
    for block in prange(n_blocks, nogil=True, num_threads=n_threads, schedule="static"):
        descend_block(positions, velocity, gains, attraction, repulsion, rates, centre, block, sums_out)
    for k in range(n_components):
        centre[k] = 0
    for block in range(n_blocks):
        for k in range(n_components):
            centre[k] += sums_out[block, k]
        squared_norm += sums_out[block, n_components]
    for k in range(n_components):
        centre[k] /= positions.shape[0]
    return sqrt(squared_norm)
