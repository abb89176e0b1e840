"""What the tree of Barnes-Hut and the walk through it agree on."""

cdef enum:
    LEAF = 8           # measured on 63,000 and 10^6 points: 8 to 16 are equal, 4 and 32 slower
    GROUP = 192        # 128 to 256 are alike at equal error
    STACK = 16384      # > (2^3 - 1) siblings x the 2,098 levels between the largest and smallest float64

cdef extern from *:
    """
    /* a cell is never opened where its squared radius is at most so many times theta^2 dof / 2 */
    #define KULLBACK_UNOPENED 1.15
    /* a far cell has to be so much smaller, squared: its error grows with a power more than that of a near one */
    #define KULLBACK_CAUTION 0.7
    """
    double UNOPENED "KULLBACK_UNOPENED"
    double CAUTION "KULLBACK_CAUTION"
