// Loops over a row in registers, and sums whose order is a function of the length alone.
// A row of n values is read as full registers and one rest: f(i, lanes) gets the position and how many lanes
// are real. `lanes` is the constant kLanes in the main loop, so the choice between a full and a partial load vanishes there.
#pragma once
#include "vec.h"

namespace simmim::SIMMIM_ISA {

template <class T>
SIMMIM_INLINE Vec load_lanes(const T* p, int lanes, float fill = 0) {
  return lanes == kLanes ? load(p) : load_n(p, lanes, fill);
}
template <class T>
SIMMIM_INLINE void store_lanes(T* p, Vec v, int lanes) {
  if (lanes == kLanes) store(p, v);
  else store_n(p, v, lanes);
}

/// f(p) with p of the element type of a float tensor (a Tensor, or a Side of a product).
template <class T, class F>
SIMMIM_INLINE void with_floats(const T& t, const F& f) {
  if (t.dtype == DType::bf16) f(static_cast<uint16_t*>(t.data));
  else f(static_cast<float*>(t.data));
}

template <class F>
SIMMIM_INLINE void for_lanes(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, kLanes);
  if (i < n) f(i, static_cast<int>(n - i));
}

/// Sum of term(i, lanes) over a row, lane sums last; missing lanes must come as 0.
template <class F>
SIMMIM_INLINE float row_sum(int64_t n, const F& term) {
  Vec a[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) a[j] += term(i + j * kLanes, kLanes);
  for (; i + kLanes <= n; i += kLanes) a[0] += term(i, kLanes);
  if (i < n) a[1] += term(i, static_cast<int>(n - i));
  return sum((a[0] + a[1]) + (a[2] + a[3]));
}

/// As row_sum for long ranges: pieces of 1024 in float, their sums in double.
template <class F>
SIMMIM_INLINE double long_sum(int64_t begin, int64_t end, const F& term) {
  double total = 0;
  for (int64_t piece = begin; piece < end; piece += 1024) {
    const int64_t n = end - piece < 1024 ? end - piece : 1024;
    total += row_sum(n, [&](int64_t i, int lanes) { return term(piece + i, lanes); });
  }
  return total;
}

}  // namespace simmim::SIMMIM_ISA
