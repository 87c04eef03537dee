// Some rows of a matrix brought together for a product, and its results put back. `places` [R] holds the place of each row among
// the picked ones, or -1.
#pragma once
#include "../core/gemm.h"
#include "reduce.h"
#include "stream.h"
#include "thread_pool.h"

namespace simmim::SIMMIM_ISA {

/// Picks the rows whose number is not 0; returns how many there are.
static inline int64_t pick_rows(const Tensor& rows, int32_t* places) {
  int32_t picked = 0;
  for (int64_t i = 0; i < rows.count(); i++) places[i] = rows.f32()[i] != 0 ? picked++ : -1;
  return picked;
}

/// f(begin, end) for ranges of rows of `width` values.
template <class F>
static SIMMIM_INLINE void row_ranges(int64_t rows, int64_t width, const F& f) {
  parallel_ranges(rows, (1 << 14) / (width + 1) + 1, f);
}

/// to[places[i]] = from[i], rows of `width` values.
static inline void collect_rows(const int32_t* places, int64_t rows, int64_t width, const Side& from, const Side& to) {
  with_floats(from, [&](const auto* x) {
    with_floats(to, [&](auto* y) {
      row_ranges(rows, width, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++)
          if (places[i] >= 0) for_lanes(width, [&](int64_t j, int n) { store_lanes(y + places[i] * width + j, load_lanes(x + i * width + j, n), n); });
      });
    });
  });
}

/// What the rows that were not picked get: row i times `step` of `data`, or zeros when that is null.
struct OtherRows {
  Side data;
  int64_t step = 0;
};

/// to[i] = from[places[i]], or that of `others` where it was not picked.
static inline void spread_rows(const int32_t* places, int64_t rows, int64_t width, const Side& from, const OtherRows& others, const Side& to) {
  const auto put = [&](auto* y, int64_t row, const auto* x) {
    const auto value = [&](int64_t j, int n) { return x ? load_lanes(x + j, n) : Vec{}; };
    if constexpr (sizeof(*y) == 4) {
      if (static_cast<size_t>(rows * width) * 4 > kStreamedBytes && can_stream(y, width)) return for_lanes(width, [&](int64_t j, int n) { stream(y + row * width + j, value(j, n)); });
    }
    for_lanes(width, [&](int64_t j, int n) { store_lanes(y + row * width + j, value(j, n), n); });
  };
  with_floats(from, [&](const auto* picked) {
    with_floats(others.data, [&](const auto* other) {
      with_floats(to, [&](auto* y) {
        row_ranges(rows, width, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; i++) {
            if (places[i] >= 0) put(y, i, picked + places[i] * width);
            else put(y, i, other ? other + i * others.step : nullptr);
          }
          end_streaming();
        });
      });
    });
  });
}

/// Into `partials` [rows / chunk, n] the sums, over each chunk of rows, of those that were not picked.
static inline void sum_other_rows(const int32_t* places, int64_t rows, int64_t n, int64_t chunk, const Side& from, float* partials) {
  with_floats(from, [&](const auto* x) {
    parallel_ranges(rows, chunk, [&](int64_t begin, int64_t end) {
      float* const sums = partials + begin / chunk * n;
      for_lanes(n, [&](int64_t j, int lanes) {
        Vec sum{};
        for (int64_t i = begin; i < end; i++)
          if (places[i] < 0) sum += load_lanes(x + i * n + j, lanes);
        store_lanes(sums + j, sum, lanes);
      });
    });
  });
}

}  // namespace simmim::SIMMIM_ISA
