// y[b, m] = how many of the growing sorted[b, :] are smaller than values[b, m] (with `right`: not larger), by bisection.
// Parallel over values. M log2 N comparisons per row.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct SearchSorted {
  static constexpr const char* name = "search_sorted";
  Tensor sorted, values, y;  // [B, N], [B, M], [B, M]
  bool right;
  static auto spec() { return fields(in("sorted", &SearchSorted::sorted, kF32 | kI32), in("values", &SearchSorted::values, kF32 | kI32), out("y", &SearchSorted::y, kI32), par("right", &SearchSorted::right)); }
  void check() const {
    require(sorted.shape.rank == 2 && values.shape.rank == 2 && sorted.dim(0) == values.dim(0), "sorted and values have ranks %d and %d, expected 2, and one number of rows", sorted.shape.rank, values.shape.rank);
    require(sorted.dtype == values.dtype, "values is %s, expected %s like sorted", name_of(values.dtype), name_of(sorted.dtype));
    require(y.shape == values.shape, "y must have the shape of values");
  }
};

}  // namespace simmim
