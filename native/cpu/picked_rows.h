// Some rows of a matrix brought together for a product, and its results put back. `places` [R] holds the place of each row among
// the picked ones, or -1; `factors` [R] what its product is multiplied by, 0 where it is not picked.
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

/// to[places[i]] = from[i], times `factors` [R] unless that is null, rows of `width` values.
static inline void collect_rows(const int32_t* places, int64_t rows, int64_t width, const Side& from, const Side& to, const float* factors = nullptr) {
  with_floats(from, [&](const auto* x) {
    with_floats(to, [&](auto* y) {
      row_ranges(rows, width, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
          if (places[i] < 0) continue;
          const Vec factor = splat(factors ? factors[i] : 1.0f);
          for_lanes(width, [&](int64_t j, int n) { store_lanes(y + places[i] * width + j, load_lanes(x + i * width + j, n) * factor, n); });
        }
      });
    });
  });
}

/// to[i] = value(i), a function (j, lanes) of the columns from j on, for all rows of `width` values.
template <class T, class F>
static SIMMIM_INLINE void put_rows(int64_t rows, int64_t width, T* to, const F& value) {
  const bool streamed = sizeof(T) == 4 && static_cast<size_t>(rows * width) * 4 > kStreamedBytes && can_stream(reinterpret_cast<float*>(to), width);
  row_ranges(rows, width, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      T* const y = to + i * width;
      if (streamed) for_lanes(width, [&](int64_t j, int n) { stream(reinterpret_cast<float*>(y) + j, value(i, j, n)); });
      else for_lanes(width, [&](int64_t j, int n) { store_lanes(y + j, value(i, j, n), n); });
    }
    if (streamed) end_streaming();
  });
}

/// to[i] = from[places[i]], or zeros where it was not picked.
static inline void spread_rows(const int32_t* places, int64_t rows, int64_t width, const Side& from, const Side& to) {
  with_floats(from, [&](const auto* picked) {
    with_floats(to, [&](auto* y) {
      put_rows(rows, width, y, [&](int64_t i, int64_t j, int n) { return places[i] < 0 ? Vec{} : load_lanes(picked + places[i] * width + j, n); });
    });
  });
}

/// to[i] = from[i], or zeros where it was not picked.
static inline void keep_rows(const int32_t* places, int64_t rows, int64_t width, const Side& from, const Side& to) {
  with_floats(from, [&](const auto* x) {
    with_floats(to, [&](auto* y) {
      put_rows(rows, width, y, [&](int64_t i, int64_t j, int n) { return places[i] < 0 ? Vec{} : load_lanes(x + i * width + j, n); });
    });
  });
}

/// to[i] = residual[i] + factors[i] * from[places[i]]; where it was not picked `fill`, else the residual. Without a residual that is 0.
static inline void finish_rows(const int32_t* places, const float* factors, int64_t rows, int64_t width, const Side& from, const Side& residual, const float* fill, const Side& to) {
  with_floats(from, [&](const auto* picked) {
    with_floats(residual, [&](const auto* added) {
      with_floats(to, [&](auto* y) {
        put_rows(rows, width, y, [&](int64_t i, int64_t j, int n) {
          if (places[i] < 0 && fill) return load_lanes(fill + j, n);
          const Vec z = added ? load_lanes(added + i * width + j, n) : Vec{};
          return places[i] < 0 ? z : fma(splat(factors[i]), load_lanes(picked + places[i] * width + j, n), z);
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
