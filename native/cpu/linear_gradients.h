// What the gradients of dense layers share besides the products: bias gradients and the derivative of GELU.
#pragma once
#include "column_sums.h"
#include "gelu.h"
#include "reduce.h"

namespace simmim::SIMMIM_ISA {

/// One pass over dy [rows, n]: dz = dy, times GELU'(pre) when there is `pre`, and into `partials` [rows / chunk, n] the sums
/// of each chunk of rows. dz and partials may be null.
template <class T, class P, class Z>
static void activation_and_bias_grad(int64_t rows, int64_t n, int64_t chunk, const T* dy, const P* pre, Z* dz, float* partials) {
  parallel_ranges(rows, chunk, [&](int64_t begin, int64_t end) {
    for (int64_t j = 0; j < n; j += 4 * kLanes) {  // four registers of columns at a time keep the sums in registers
      Vec sum[4] = {};
      const int64_t width = n - j < 4 * kLanes ? n - j : 4 * kLanes;
      for (int64_t i = begin; i < end; i++)
        for (int v = 0; v * kLanes < width; v++) {
          const int64_t at = i * n + j + v * kLanes;
          const int lanes = static_cast<int>(width - v * kLanes < kLanes ? width - v * kLanes : kLanes);
          Vec g = load_lanes(dy + at, lanes);
          if (pre) g *= gelu_derivative(load_lanes(pre + at, lanes));
          if (dz) store_lanes(dz + at, g, lanes);
          sum[v] += g;
        }
      if (partials)
        for (int v = 0; v * kLanes < width; v++)
          store_n(partials + begin / chunk * n + j + v * kLanes, sum[v], static_cast<int>(width - v * kLanes < kLanes ? width - v * kLanes : kLanes));
    }
  });
}

/// The same for whatever the tensors are stored in.
static inline void activation_and_bias_grad(int64_t rows, int64_t n, int64_t chunk, const Side& dy, const Side& pre, const Side& dz, float* partials) {
  with_floats(dy, [&](const auto* from) {
    with_floats(pre, [&](const auto* before) {
      with_floats(dz, [&](auto* to) { activation_and_bias_grad(rows, n, chunk, from, before, to, partials); });
    });
  });
}

}  // namespace simmim::SIMMIM_ISA
