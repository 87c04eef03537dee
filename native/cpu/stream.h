// Stores past the caches, for results too large to be found there again: the lines are not read first, which saves a third
// of what a copy moves.
#pragma once
#include "vec.h"

namespace simmim::SIMMIM_ISA {

/// Bytes from which on a result is not expected to find its lines in the last-level cache, nor all of itself when it is read.
constexpr size_t kStreamedBytes = size_t{4} << 20;

/// Whether n values at p are whole cache lines, as stream() wants them.
SIMMIM_INLINE bool can_stream([[maybe_unused]] const float* p, [[maybe_unused]] int64_t n) {
#if defined(__AVX2__)
  return reinterpret_cast<uintptr_t>(p) % 64 == 0 && n % 16 == 0;
#else
  return false;
#endif
}
SIMMIM_INLINE void stream(float* p, Vec v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, v);
#elif defined(__AVX2__)
  _mm256_stream_ps(p, v);
#else
  store(p, v);
#endif
}
/// Streamed stores are ordered for other threads only by this.
SIMMIM_INLINE void end_streaming() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

}  // namespace simmim::SIMMIM_ISA
