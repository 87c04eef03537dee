// One branch for a whole register.
#pragma once
#include "vec.h"

namespace simmim::SIMMIM_ISA {

/// True when all bits of v are 0, and on the baseline level also when they are those of -0.
SIMMIM_INLINE bool all_zero(Vec v) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(v), reinterpret_cast<__m512i>(v)) == 0;
#elif defined(__AVX2__)
  return _mm256_testz_si256(reinterpret_cast<__m256i>(v), reinterpret_cast<__m256i>(v));
#else
  return sum(abs(v)) == 0;
#endif
}

}  // namespace simmim::SIMMIM_ISA
