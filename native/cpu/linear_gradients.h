// What the gradients of dense layers share besides the products: bias gradients and the derivative of GELU.
#pragma once
#include "column_sums.h"
#include "gelu.h"
#include "reduce.h"

namespace simmim::SIMMIM_ISA {

/// One pass over dy [rows, n]: dz = dy * GELU'(pre) when there is `pre`, and into `partials` [rows / chunk, n], when
/// given, the sums of each chunk of rows.
template <class T, class P>
static void activation_and_bias_grad(int64_t rows, int64_t n, int64_t chunk, const T* dy, const P* pre, T* dz, float* partials) {
  parallel_ranges(rows, chunk, [&](int64_t begin, int64_t end) {
    for (int64_t j = 0; j < n; j += 4 * kLanes) {  // four registers of columns at a time keep the sums in registers
      Vec sum[4] = {};
      const int64_t width = n - j < 4 * kLanes ? n - j : 4 * kLanes;
      for (int64_t i = begin; i < end; i++)
        for (int v = 0; v * kLanes < width; v++) {
          const int64_t at = i * n + j + v * kLanes;
          const int lanes = static_cast<int>(width - v * kLanes < kLanes ? width - v * kLanes : kLanes);
          Vec g = load_lanes(dy + at, lanes);
          if (pre) {
            g *= gelu_derivative(load_lanes(pre + at, lanes));
            store_lanes(dz + at, g, lanes);
          }
          sum[v] += g;
        }
      if (partials)
        for (int v = 0; v * kLanes < width; v++)
          store_n(partials + begin / chunk * n + j + v * kLanes, sum[v], static_cast<int>(width - v * kLanes < kLanes ? width - v * kLanes : kLanes));
    }
  });
}

/// The sums of each chunk of rows of `values` [rows, n], f32 or bf16.
static inline void chunk_sums(int64_t rows, int64_t n, int64_t chunk, const void* values, DType dtype, float* partials) {
  const float* const no_pre = nullptr;
  if (dtype == DType::f32) activation_and_bias_grad(rows, n, chunk, static_cast<const float*>(values), no_pre, static_cast<float*>(nullptr), partials);
  else activation_and_bias_grad(rows, n, chunk, static_cast<const uint16_t*>(values), no_pre, static_cast<uint16_t*>(nullptr), partials);
}

}  // namespace simmim::SIMMIM_ISA
