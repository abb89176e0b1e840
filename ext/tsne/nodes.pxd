"""Constants on which the tree of Barnes-Hut and the walk through it agree.

The tree is in arrays. A row of ``links`` belongs to a cell and holds its first child, the number of its children, its
first point and the end of its points. The children of a cell, and its points in Z-order, stand side by side. A row of
``cells`` holds the centre of mass, the mass, the spread and the radius of a cell (see ``summarise_cell`` in tree.pyx).
"""

cdef enum:
    LEAF = 8           # points of a leaf; measured on 63,000 and 10^6 points: 8 to 16 are equal, 4 and 32 slower
    GROUP = 192        # points of the smallest targets; 128 to 256 are alike at equal error
    STACK = 16384      # > (2^3 - 1) siblings x the 2,098 levels between the largest and smallest float64

cdef extern from *:
    """
    /* A cell is never opened where its squared radius is at most this times theta^2 and the least squared scale. */
    #define KULLBACK_UNOPENED 1.15
    /* A far cell is accepted up to this times the squared radius of a near one: its error grows by a higher power. */
    #define KULLBACK_CAUTION 0.7
    """
    double UNOPENED "KULLBACK_UNOPENED"
    double CAUTION "KULLBACK_CAUTION"
