// Sums over the rows of a matrix (bias gradients), with an order that is a function of the shape alone:
// chunks of rows are summed downwards each on its own, then the chunks in order.
#pragma once
#include "thread_pool.h"
#include "vec.h"

namespace simmim::SIMMIM_ISA {

/// sums[j] (+)= sum over the `chunks` rows of partials [chunks, n].
SIMMIM_INLINE void combine_column_sums(const float* partials, int64_t chunks, int64_t n, float* sums, bool accumulate) {
  parallel_ranges(n, 256, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; j += kLanes) {
      const int lanes = static_cast<int>(end - j < kLanes ? end - j : kLanes);
      Vec sum{};
      for (int64_t c = 0; c < chunks; c++) sum += lanes == kLanes ? load(partials + c * n + j) : load_n(partials + c * n + j, lanes);
      if (accumulate) sum += load_n(sums + j, lanes);
      store_n(sums + j, sum, lanes);
    }
  });
}

}  // namespace simmim::SIMMIM_ISA
