"""Header-only: sums over groups of lanes, by the vectorised passes of pass.h and family.h, and rows side by side.

Passes take 0 and normal numbers. Those that also sum p and q return whether values were unusual; the sums are then of
no use. The argument ``kind``, which is NULL, chooses the type of the elements.
"""

from cython cimport floating
from libc.stdint cimport int64_t

from divergence.terms cimport formula_of

cdef enum:
    LANES = 16  # parts of a sum, side by side
    STEP = 16   # elements of rows side by side that are added before they are widened

cdef extern from "divergence/pass.h":
    """
    #include "common/lanes/lanes.h"
    _Static_assert(KB_LANES == 16 && KB_RUN == 16, "LANES and STEP of passes.pxd are the numbers of lanes.h");
    """
    ctypedef struct Groups "kb_groups":
        const void* p
        const void* q
        Py_ssize_t p_step, q_step  # elements from group to group
        Py_ssize_t n_groups
        int has_q                  # without it, q is p
    bint add_terms_float "kb_add_terms_f"(int measure, const Groups* groups, double* masses, double* sums,
                                          int64_t* zeros) noexcept nogil
    bint add_terms_double "kb_add_terms_d"(int measure, const Groups* groups, double* masses, double* sums,
                                           int64_t* zeros) noexcept nogil
    void add_terms_alone_float "kb_add_terms_alone_f"(int measure, const Groups* groups, double* sums) noexcept nogil
    void add_terms_alone_double "kb_add_terms_alone_d"(int measure, const Groups* groups, double* sums) noexcept nogil

cdef extern from "divergence/family.h":
    bint add_family_float "kb_add_family_f"(const Groups* groups, double* masses, double** sums, int64_t* zeros,
                                            double* largest) noexcept nogil
    bint add_family_double "kb_add_family_d"(const Groups* groups, double* masses, double** sums, int64_t* zeros,
                                             double* largest) noexcept nogil

cdef extern from "divergence/columns.h":
    void transpose_float "kb_transpose_f"(const float* x, Py_ssize_t row, Py_ssize_t n, float* out) noexcept nogil
    void transpose_double "kb_transpose_d"(const double* x, Py_ssize_t row, Py_ssize_t n, double* out) noexcept nogil
    void finish_kl_lanes "kb_finish_kl"(const double* p, const double* q, const double* total, double unit,
                                        double tolerance_p, double tolerance_q, bint wide, double* value,
                                        int64_t* settled) noexcept nogil


cdef inline Groups groups_of(const floating* p, Py_ssize_t p_step, const floating* q, Py_ssize_t q_step,
                             Py_ssize_t n_groups, bint has_q) noexcept nogil:
    """Describe groups of lanes of two operands; without q, p has to be given twice."""
    cdef Groups groups
    groups.p, groups.p_step = p, p_step
    groups.q, groups.q_step = q, q_step
    groups.n_groups, groups.has_q = n_groups, has_q
    return groups


cdef inline bint add_terms(int measure, const Groups* groups, double* masses, double* sums, int64_t* zeros,
                           floating* kind) noexcept nogil:
    """Add the terms of a measure to ``sums``, and the sums of p and q to ``masses`` and the LANES doubles after it."""
    if floating is float:
        return add_terms_float(formula_of(measure), groups, masses, sums, zeros)
    else:
        return add_terms_double(formula_of(measure), groups, masses, sums, zeros)


cdef inline void add_terms_alone(int measure, const Groups* groups, double* sums, floating* kind) noexcept nogil:
    """Add the terms of a measure, without the masses; values have to be usual."""
    if floating is float:
        add_terms_alone_float(formula_of(measure), groups, sums)
    else:
        add_terms_alone_double(formula_of(measure), groups, sums)


cdef inline bint add_family(const Groups* groups, double* masses, double** sums, int64_t* zeros, double* largest,
                            floating* kind) noexcept nogil:
    """Add the sums of the family's measures, each where it is not NULL, and both kinds of masses."""
    if floating is float:
        return add_family_float(groups, masses, sums, zeros, largest)
    else:
        return add_family_double(groups, masses, sums, zeros, largest)


cdef inline bint is_usual(floating x) noexcept nogil:
    """Whether passes take this value: 0, or a number from LEAST to MOST of lanes/both_types.h."""
    if floating is float:
        return x == 0 or 4.70197740328915e-38 <= x <= 8.507059173023462e37
    else:
        return x == 0 or 8.900295434028806e-308 <= x <= 4.49423283715579e307
