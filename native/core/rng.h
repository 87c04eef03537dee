// Philox 4x32-10 (Salmon et al., SC 2011): a draw is a pure function of (seed, site, step, index).
// Twin of ts/rng.ts; the same header serves CPU and CUDA.
#pragma once
#include <cstdint>

#include "tensor.h"

namespace simmim {

struct PhiloxWords {
  uint32_t w[4];
};

/// key (seed, site), counter (index low, index high, step, 0)
SIMMIM_INLINE PhiloxWords philox(uint32_t seed, uint32_t site, uint32_t step, uint64_t index) {
  uint32_t k0 = seed, k1 = site;
  uint32_t c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32), c2 = step, c3 = 0;
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    // The counter lanes: (hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0).
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// Uniform in [0, 1): the upper 24 bits / 2^24.
SIMMIM_INLINE float uniform_from_word(uint32_t word) { return static_cast<float>(word >> 8) * (1.0f / 16777216.0f); }

}  // namespace simmim
