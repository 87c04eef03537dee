// Rows that do not count, where all are multiplied (cpu/picked_rows.h brings the others together).
#pragma once
#include "launch.cuh"
#include "side.cuh"

namespace simmim::cuda {

/// y = residual + rows[i] y in each row of n values; where that factor is 0 `fill` [n], else the residual. Without a residual that is 0.
struct FinishRows {
  const float* rows;
  int64_t n;
  Side residual;
  const float* fill;
  Side y;
  SIMMIM_DEVICE void operator()(int64_t i) const {
    const float factor = rows[i / n];
    const float added = residual.data ? load_one(residual, i) : 0.0f;
    store_one(y, i, factor != 0 ? factor * load_one(y, i) + added : fill ? fill[i % n] : added);
  }
};

enum class Picked { times_factor, as_they_are, others };

/// to = from in the rows of n values whose factor is not 0, times it or as they are, or in the other ones; zeros elsewhere.
struct PickRows {
  const float* rows;
  int64_t n;
  Side from, to;
  Picked picked;
  SIMMIM_DEVICE void operator()(int64_t i) const {
    const float factor = rows[i / n];
    const bool wanted = (factor == 0) == (picked == Picked::others);
    store_one(to, i, wanted ? load_one(from, i) * (picked == Picked::times_factor ? factor : 1.0f) : 0.0f);
  }
};

}  // namespace simmim::cuda
