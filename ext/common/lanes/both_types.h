/* Include the file KB_FILE twice: for float32 with KB_REAL 32, and for float64 with KB_REAL 64.

   A file of functions for both types starts by including itself through this one (exp_log.h shows how). Its functions
   are called KB(name), which is name_f for float32 and name_d for float64. This is C because Cython's fused types
   cannot choose constants and integer types along with the floating-point type. */

/* float32 */
#define KB_REAL 32
#define KB(name) name##_f
#define REAL float
#define BITS int32_t  /* the integers of the same size, for work on the bits of a number */
#define UBITS uint32_t
#define LEAST 0x01800000u /* The fast terms take 0 and the numbers between these two, 4 FLT_MIN and FLT_MAX / 4. */
#define MOST 0x7e800000u
#define MAGNITUDE 0x7fffffff         /* all bits but the sign's */
#define LN2 (0.693147181f / 8388608) /* of an exponent that is counted in units of the last place of its bits, 2^-23 */
#define LOG_UNIT 8388608             /* these units in one */
#define LOWEST -1e37f                /* stands for -inf among logits */
#define EXP_LOWEST -86.0f            /* exp(EXP_LOWEST) = 2^-124 is still normal. */
#include "common/lanes/one_type.h"

/* float64 */
#define KB_REAL 64
#define KB(name) name##_d
#define REAL double
#define BITS int64_t
#define UBITS uint64_t
#define LEAST 0x0030000000000000ull
#define MOST 0x7fd0000000000000ull
#define MAGNITUDE 0x7fffffffffffffffll
#define LN2 0.6931471805599453
#define LOG_UNIT 1
#define LOWEST -1e300
#define EXP_LOWEST -707.0
#include "common/lanes/one_type.h"
