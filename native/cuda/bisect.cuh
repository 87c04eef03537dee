// Binary search by one thread.
#pragma once
#include "device.cuh"

namespace simmim::cuda {

/// The first of the numbers 0..n-1 for which before(i) does not hold (n where it holds for all); before() must hold for none
/// behind one for which it does not. The same questions in the same order as cpu/bisect.h, so NaN has the same effect.
template <class F>
SIMMIM_DEVICE int64_t first_not(int64_t n, const F& before) {
  int64_t first = 0;
  while (n > 0) {
    const int64_t half = n / 2;
    if (before(first + half)) {
      first += half + 1;
      n -= half + 1;
    } else {
      n = half;
    }
  }
  return first;
}

}  // namespace simmim::cuda
