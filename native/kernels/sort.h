// The k largest values of each row, largest first (equal values: lower index first), and where they were.
// A heap of k entries lives in the outputs themselves. Parallel over rows; N log k comparisons a row. On a GPU, bitonic
// sorts in shared memory, or of whole rows in the workspace when k is large.
#pragma once
#include "../core/spec.h"
#include "sorted_rows.h"

namespace simmim {

struct TopK {
  static constexpr const char* name = "top_k";
  Tensor x, values, indices;  // [R, N], [R, K], [R, K]
  void* workspace = nullptr;
  static auto spec() { return fields(in("x", &TopK::x, kF32 | kI32), out("values", &TopK::values, kF32 | kI32), out("indices", &TopK::indices, kI32)); }
  void check() const {
    require(x.shape.rank == 2 && values.shape.rank == 2 && values.shape == indices.shape, "x has rank %d, expected 2, and values and indices one shape", x.shape.rank);
    require(x.dtype == values.dtype, "values is %s, expected %s like x", name_of(values.dtype), name_of(x.dtype));
    require(values.dim(0) == x.dim(0) && values.dim(1) <= x.dim(1), "values is [%lld, %lld] for x of [%lld, %lld]", static_cast<long long>(values.dim(0)), static_cast<long long>(values.dim(1)), static_cast<long long>(x.dim(0)),
            static_cast<long long>(x.dim(1)));
  }
  static constexpr int64_t kSharedK = 1024;  // largest k that a GPU keeps in shared memory
  size_t workspace_bytes() const { return 0; }
  size_t cuda_workspace_bytes() const { return values.dim(1) > kSharedK ? static_cast<size_t>(x.dim(0) * power_of_two_from(x.dim(1))) * 8 : 0; }
};

}  // namespace simmim
