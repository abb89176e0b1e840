/* The highest SIMD level that this CPU runs: 0 is the baseline, 1 x86-64-v3 (AVX2, FMA) and 2 x86-64-v4 (AVX-512 F, BW,
   CD, DQ, VL).

   The module `cpu` asks when the library is loaded, and setup.py asks when it is built. This is C because
   the compiler's builtins for the question take string literals, which Cython cannot pass. */

#ifndef KULLBACK_CPU
#define KULLBACK_CPU

static int kullback_simd_level(void) {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    __builtin_cpu_init();
    int v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
          && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    int v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
          && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
          && __builtin_cpu_supports("avx512vl");
    return v3 + v4;
#else
    return 0;
#endif
}

#endif
