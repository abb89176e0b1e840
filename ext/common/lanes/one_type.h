/* Include the file KB_FILE for the type that both_types.h has just described, and forget the description. */

/* A literal without C would turn a formula of float32 into one of float64. */
#define C(number) ((REAL)(number))
/* The lanes of one vector: loops with many sums work so many at once, so that the sums stay in registers. */
#define FEW (KB_VECTOR / (int)sizeof(REAL))
#define EACH_OF_FEW _Pragma("omp simd") for (int k = 0; k < FEW; k++)

#include KB_FILE

#undef KB_REAL
#undef KB
#undef REAL
#undef BITS
#undef UBITS
#undef LEAST
#undef MOST
#undef MAGNITUDE
#undef LN2
#undef LOG_UNIT
#undef LOWEST
#undef EXP_LOWEST
#undef C
#undef FEW
#undef EACH_OF_FEW
