/* The table of measures: their numbers, their names and what sets each apart. All other code asks this table.

   This is C because Cython cannot make numbers, which loops take as literals at compile time, names and properties of
   one list.

   To add a measure, add its row here and its number's name and term in terms.pxd; where its value is more than the sum
   of its terms in nats, add the formula in finish.pxd. CONTRIBUTING.md has an example.

   The columns are:
   - the number's name, which is KB_KL in C and KL in Cython;
   - the name that Python knows;
   - the measure that has the same terms, often itself, as two measures may turn the same sums into different values;
   - how its terms are worked: one of KB_FAST, KB_SLOW, KB_WIDE and KB_NONE below;
   - its place among the measures that share their logarithms and can be worked in one pass (family.h), or KB_ALONE;
   - how many kinds of inner products a sweep over logits has to sum for it (logits.pxd), or KB_SWEEPS;
   - its properties, joined by |.
   terms.pxd says beside the names what one pair of elements adds to each measure. */

#ifndef KULLBACK_MEASURES
#define KULLBACK_MEASURES

enum {
    KB_FAST, /* by the vectorised formulas of terms.h */
    KB_SLOW, /* through libm, as the measure is rare */
    KB_WIDE, /* through libm and from float64, as powers and quotients leave the range of float32 */
    KB_NONE  /* there are none: the value comes from the masses or from the largest elements */
};

enum {
    KB_USES_Q = 1,       /* its terms depend on q */
    KB_EXACT = 2,        /* its terms are fast, and yet the sums of p and q enter its value to first order */
    KB_LARGEST = 4,      /* the row takes its largest term instead of their sum */
    KB_UNITLESS = 8,     /* its value is no logarithm, so the base does not scale it */
    KB_SHOWN = 16,       /* compare, evaluate and the accumulators of rows know it by its name, in this order */
    KB_SYMMETRIC = 32 | KB_USES_Q /* exchanging p with q changes no bit of its terms, its sums and its value */
};

enum {
    KB_ALONE = -1,      /* no place in the family */
    KB_FAMILY_SIZE = 5, /* how many places there are */
    KB_SWEEPS = -1      /* logits need a sweep for their log-sum-exps and another one for the measure */
};

#define KB_MEASURES(ROW) \
ROW(KL,            "kl",              KL,            KB_FAST, 0,        0,         KB_SHOWN | KB_USES_Q)              \
ROW(REVERSE_KL,    "reverse_kl",      REVERSE_KL,    KB_FAST, 1,        2,         KB_SHOWN | KB_USES_Q)              \
ROW(CROSS,         "cross_entropy",   CROSS,         KB_FAST, KB_ALONE, 1,         KB_SHOWN | KB_USES_Q | KB_EXACT)   \
ROW(ENTROPY,       "entropy_p",       ENTROPY,       KB_FAST, 2,        1,         KB_SHOWN | KB_EXACT)               \
ROW(ENTROPY_Q,     "entropy_q",       ENTROPY_Q,     KB_FAST, 3,        2,         KB_SHOWN | KB_USES_Q | KB_EXACT)   \
ROW(JS,            "js",              JS,            KB_FAST, 4,        KB_SWEEPS, KB_SHOWN | KB_SYMMETRIC)           \
ROW(JS_ROOT,       "js_distance",     JS,            KB_FAST, 4,        KB_SWEEPS, KB_SHOWN | KB_SYMMETRIC)           \
ROW(JEFFREYS,      "jeffreys",        JEFFREYS,      KB_FAST, KB_ALONE, 2,         KB_SHOWN | KB_SYMMETRIC)           \
ROW(HELLINGER,     "hellinger",       HELLINGER,     KB_FAST, KB_ALONE, KB_SWEEPS, KB_SHOWN | KB_SYMMETRIC)           \
ROW(VARIATION,     "total_variation", VARIATION,     KB_FAST, KB_ALONE, KB_SWEEPS,                                    \
    KB_SHOWN | KB_SYMMETRIC | KB_UNITLESS)                                                                            \
ROW(CHI2,          "chi2",            CHI2,          KB_FAST, KB_ALONE, KB_SWEEPS, KB_SHOWN | KB_USES_Q | KB_UNITLESS)\
ROW(TOP1,          "top1_agreement",  TOP1,          KB_NONE, KB_ALONE, 0,         KB_SHOWN | KB_UNITLESS)            \
ROW(AFFINITY,      "affinity",        AFFINITY,      KB_WIDE, KB_ALONE, KB_SWEEPS, KB_SYMMETRIC | KB_UNITLESS)        \
ROW(RENYI,         "renyi",           RENYI,         KB_WIDE, KB_ALONE, KB_SWEEPS, KB_USES_Q)                         \
ROW(ALPHA,         "alpha",           RENYI,         KB_WIDE, KB_ALONE, KB_SWEEPS, KB_USES_Q | KB_UNITLESS)           \
ROW(RENYI_ENTROPY, "renyi_entropy",   RENYI_ENTROPY, KB_WIDE, KB_ALONE, KB_SWEEPS, 0)                                 \
ROW(TSALLIS,       "tsallis_entropy", RENYI_ENTROPY, KB_WIDE, KB_ALONE, KB_SWEEPS, KB_UNITLESS)                       \
ROW(PERPLEXITY,    "perplexity_p",    ENTROPY,       KB_FAST, 2,        1,         KB_EXACT)                          \
ROW(SUPPORT,       "support",         SUPPORT,       KB_WIDE, KB_ALONE, KB_SWEEPS, KB_USES_Q)                         \
ROW(MAX_RATIO,     "max_ratio",       MAX_RATIO,     KB_WIDE, KB_ALONE, KB_SWEEPS, KB_USES_Q | KB_LARGEST)            \
ROW(MIN_ENTROPY,   "min_entropy",     MIN_ENTROPY,   KB_SLOW, KB_ALONE, KB_SWEEPS, KB_LARGEST)                        \
ROW(MIXTURE,       "mixture",         MIXTURE,       KB_FAST, KB_ALONE, KB_SWEEPS, KB_SYMMETRIC | KB_EXACT)           \
ROW(MASS,          "mass",            MASS,          KB_NONE, KB_ALONE, 0,         KB_UNITLESS)

#define KB_NUMBER(NUMBER, ...) KB_##NUMBER,
enum { KB_MEASURES(KB_NUMBER) KB_N_MEASURES };
#undef KB_NUMBER

typedef struct {
    const char *name;
    int formula, terms, family_place, inner_sums, properties;
} kb_measure;

#define KB_ROW(NUMBER, NAME, FORMULA, TERMS, PLACE, INNER_SUMS, PROPERTIES) \
    {NAME, KB_##FORMULA, TERMS, PLACE, INNER_SUMS, PROPERTIES},
static const kb_measure kb_measures[] = {KB_MEASURES(KB_ROW)};
#undef KB_ROW

#endif /* KULLBACK_MEASURES */
