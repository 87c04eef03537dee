// Binary search without branches, so that many searches overlap. First of the numbers 0..n-1 for which before(i) does not hold
// (n where it holds for all); before() must hold for none behind one for which it does not.
#pragma once
#include "vec.h"

namespace simmim::SIMMIM_ISA {

template <class F>
SIMMIM_INLINE int64_t first_not(int64_t n, const F& before) {
  int64_t first = 0;
  while (n > 0) {
    const int64_t half = n / 2, go = -static_cast<int64_t>(before(first + half));  // all ones: the upper part is left
    first += go & (half + 1);
    n = half + (go & (n - 1 - 2 * half));
  }
  return first;
}

}  // namespace simmim::SIMMIM_ISA
