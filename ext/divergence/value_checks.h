/* Checks of values while they are summed: whether the fast terms take them, and whether some are zero.

   This is C because the order of a number's bits, as integers, finds all bad values with one comparison an element. */

#ifndef KB_REAL
#ifndef KULLBACK_VALUE_CHECKS
#define KULLBACK_VALUE_CHECKS
#include "common/lanes/exp_log.h"

/* What a pass found. Unless all values were usual, its sums are of no use. */
enum {
    KB_USUAL,    /* 0 and numbers from LEAST to MOST */
    KB_UNUSUAL,  /* subnormal numbers, negative ones, infinities, NaN, or numbers near to overflow */
    KB_HAS_ZEROS /* values that a pass without zeros does not take */
};

#define KB_FILE "divergence/value_checks.h"
#include "common/lanes/both_types.h"
#undef KB_FILE
#endif
#else

/* kb_note_least keeps the least of values, with negative ones and -0 below all others. LEAST_POSITIVE is the least
   value that a pass without zeros takes. What is too large, infinite or NaN shows in the sums. */
#if KB_REAL == 32
typedef BITS KB(kb_extreme);
KB_INLINE void KB(kb_note_least)(REAL a, KB(kb_extreme) *least) {
    BITS bits = KB(kb_bits)(a);
    *least = *least < bits ? *least : bits;
}
KB_INLINE void KB(kb_note_largest)(REAL a, KB(kb_extreme) *largest) {
    BITS bits = KB(kb_bits)(a);
    *largest = *largest > bits ? *largest : bits;
}
KB_INLINE double KB(kb_extreme_value)(KB(kb_extreme) noted) { return (double)KB(kb_value)(noted); }
KB_INLINE KB(kb_extreme) KB(kb_least_positive)(void) { return (BITS)LEAST; }
#else
typedef REAL KB(kb_extreme);
KB_INLINE void KB(kb_note_least)(REAL a, KB(kb_extreme) *least) { *least = a < *least ? a : *least; }
KB_INLINE void KB(kb_note_largest)(REAL a, KB(kb_extreme) *largest) { *largest = a > *largest ? a : *largest; }
KB_INLINE double KB(kb_extreme_value)(KB(kb_extreme) noted) { return noted; }
KB_INLINE KB(kb_extreme) KB(kb_least_positive)(void) { return KB(kb_value)(LEAST); }
#endif

/* kb_note keeps what tells whether some value is neither 0 nor from LEAST to MOST. As unsigned integers, the bits of
   negative values, -0, infinities and NaN stand above those of MOST, and subnormal numbers stand just above 0; 0
   itself wraps to the top when 1 is taken off. Unsigned comparisons of 64-bit integers are slow, so in float64 the
   keys are biased to signed integers, `highest` collects the signs, and the sums tell what is too large. */
#if KB_REAL == 32
typedef uint32_t KB(kb_key);
#define LEAST_KEY (LEAST - 1)
#define LARGEST_KEY 0xffffffffu
#else
typedef int64_t KB(kb_key);
#define LEAST_KEY ((int64_t)(LEAST + 0x7fffffffffffffffull))
#define LARGEST_KEY 0x7fffffffffffffffll
#endif

/* What has been noted of the values of each lane. Passes with zeros use the first two, those without zeros the last. */
typedef struct {
    KB(kb_key) lowest[KB_LANES];
    UBITS highest[KB_LANES];
    KB(kb_extreme) least[KB_LANES];
} KB(kb_notes);

KB_INLINE void KB(kb_clear_notes)(KB(kb_notes) *notes) {
    for (int k = 0; k < KB_LANES; k++) {
        notes->lowest[k] = LARGEST_KEY;
        notes->highest[k] = 0;
        notes->least[k] = KB(kb_least_positive)();
    }
}

KB_INLINE void KB(kb_note)(REAL a, KB(kb_key) *lowest, UBITS *highest) {
    UBITS bits = (UBITS)KB(kb_bits)(a);
#if KB_REAL == 32
    KB(kb_key) key = bits - 1;
    *highest = *highest > bits ? *highest : bits;
#else
    KB(kb_key) key = (KB(kb_key))(bits + 0x7fffffffffffffffull);
    *highest |= bits;
#endif
    *lowest = *lowest < key ? *lowest : key;
}

/* Return what the values with zeros were, but for float64 that are too large. */
KB_INLINE int KB(kb_found_with_zeros)(const KB(kb_notes) *notes) {
    KB(kb_key) low = LARGEST_KEY;
    UBITS high = 0;
    for (int k = 0; k < KB_LANES; k++) low = low < notes->lowest[k] ? low : notes->lowest[k];
#if KB_REAL == 32
    for (int k = 0; k < KB_LANES; k++) high = high > notes->highest[k] ? high : notes->highest[k];
    return low < LEAST_KEY || high > MOST ? KB_UNUSUAL : KB_USUAL;
#else
    for (int k = 0; k < KB_LANES; k++) high |= notes->highest[k];
    return low < LEAST_KEY || (BITS)high < 0 ? KB_UNUSUAL : KB_USUAL;
#endif
}

/* Return what the values of a pass were, given the sums of p and of q in each lane. */
KB_STATIC int KB(kb_found)(int zeros, const KB(kb_notes) *notes, const double *p_mass, const double *q_mass) {
    double most = KB(kb_value)(MOST);
    int large = 0;
    if (zeros) {
        int found = KB(kb_found_with_zeros)(notes);
        if (found != KB_USUAL) return found;
    } else {
        KB(kb_extreme) low = notes->least[0];
        for (int k = 1; k < KB_LANES; k++) low = low < notes->least[k] ? low : notes->least[k];
        if (low < KB(kb_least_positive)()) return KB_HAS_ZEROS;
    }
    for (int k = 0; k < KB_LANES; k++) large |= !(p_mass[k] <= most) | !(q_mass[k] <= most);
    return large ? KB_UNUSUAL : KB_USUAL;
}

#undef LEAST_KEY
#undef LARGEST_KEY

#endif
