// Rows that do not count, where all are multiplied (cpu/picked_rows.h brings the others together).
#pragma once
#include "launch.cuh"
#include "side.cuh"

namespace simmim::cuda {

/// y = `others` [n], or [.., n] where it is whole, or zeros without it, in the rows of n values whose number is 0.
struct FillRows {
  const float* rows;
  int64_t n;
  Side others;
  bool whole;
  Side y;
  SIMMIM_DEVICE void operator()(int64_t i) const {
    if (rows[i / n] == 0) store_one(y, i, others.data ? load_one(others, whole ? i : i % n) : 0.0f);
  }
};

/// to = from in the rows whose number is not 0 (or, with `others`, in the other ones), zeros elsewhere.
struct PickRows {
  const float* rows;
  int64_t n;
  Side from, to;
  bool others;
  SIMMIM_DEVICE void operator()(int64_t i) const { store_one(to, i, (rows[i / n] == 0) == others ? load_one(from, i) : 0.0f); }
};

}  // namespace simmim::cuda
