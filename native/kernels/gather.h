// Reading and writing rows by number.
//   gather      y[b, o, k, :] = x[b, o, indices[b, k], :]
//   gather_nd   y[n, :] = x[sum_d indices[n, d] strides[d], :]
//   scatter_nd  y[sum_d indices[n, d] strides[d], :] += updates[n, :], or = where `add` is false; in place, in order of n
//   segment_sum y[s, :] = sum of x[n, :] where ids[n] = s; ids outside the segments are dropped
//   one_hot     y[n, d] = d == indices[n] ? on : off
// check_values() refuses indices outside x or y; replayed programs, which are not checked again, read zeros and drop writes.
// Parallel over rows (reads) or columns (writes), so sums have one order. A GPU sorts the numbers of many writes by row
// first and is parallel over rows as well, in the same order within each.
#pragma once
#include "../core/spec.h"
#include "sorted_rows.h"

namespace simmim {

struct Gather {
  static constexpr const char* name = "gather";
  Tensor x, indices, y;  // [B, O, N, I], [B, K], [B, O, K, I]
  static auto spec() { return fields(in("x", &Gather::x, kAny), values_checked(in("indices", &Gather::indices, kI32)), out("y", &Gather::y, kAny)); }
  void check() const {
    require(x.shape.rank == 4 && indices.shape.rank == 2 && y.shape.rank == 4, "x, indices, y have ranks %d, %d, %d, expected 4, 2, 4", x.shape.rank, indices.shape.rank, y.shape.rank);
    require(x.dtype == y.dtype, "y is %s, expected %s like x", name_of(y.dtype), name_of(x.dtype));
    require(y.dim(0) == x.dim(0) && y.dim(1) == x.dim(1) && y.dim(2) == indices.dim(1) && y.dim(3) == x.dim(3) && indices.dim(0) == x.dim(0), "y does not fit x and indices");
  }
  void check_values() const {
    const int64_t n = x.dim(2), count = indices.count();
    for (int64_t i = 0; i < count; i++) require(indices.i32()[i] >= 0 && indices.i32()[i] < n, "GatherV2: the index value %d is not in [0, %lld]", indices.i32()[i], static_cast<long long>(n - 1));
  }
};

/// Row number of index tuple n, -1 when outside.
SIMMIM_INLINE int64_t flat_row(const Tensor& indices, const Ints& strides, int64_t n, int64_t rows) {
  const int64_t depth = indices.dim(1);
  int64_t row = 0;
  for (int64_t d = 0; d < depth; d++) row += indices.i32()[n * depth + d] * strides[static_cast<int>(d)];
  return row >= 0 && row < rows ? row : -1;
}

inline void check_tuples(const Tensor& indices, const Ints& strides) {
  require(indices.shape.rank == 2, "indices has rank %d, expected 2", indices.shape.rank);
  require(indices.dim(1) == strides.size, "strides has %d entries, expected %lld", strides.size, static_cast<long long>(indices.dim(1)));
  for (int d = 0; d < strides.size; d++) require(strides[d] >= 0 && strides[d] <= (int64_t{1} << 31), "strides[%d] is %lld", d, static_cast<long long>(strides[d]));
}
inline void check_tuple_values(const Tensor& indices, const Ints& strides, int64_t rows) {
  for (int64_t n = 0; n < indices.dim(0); n++)
    require(flat_row(indices, strides, n, rows) >= 0, "index tuple %lld does not index into the %lld rows", static_cast<long long>(n), static_cast<long long>(rows));
}

struct GatherNd {
  static constexpr const char* name = "gather_nd";
  Tensor x, indices, y;  // [R, I], [N, D], [N, I]
  Ints strides;          // [D], in rows
  static auto spec() { return fields(in("x", &GatherNd::x, kAny), values_checked(in("indices", &GatherNd::indices, kI32)), out("y", &GatherNd::y, kAny), par("strides", &GatherNd::strides)); }
  void check() const {
    require(x.shape.rank == 2 && y.shape.rank == 2, "x and y have ranks %d and %d, expected 2", x.shape.rank, y.shape.rank);
    require(x.dtype == y.dtype, "y is %s, expected %s like x", name_of(y.dtype), name_of(x.dtype));
    check_tuples(indices, strides);
    require(y.dim(0) == indices.dim(0) && y.dim(1) == x.dim(1), "y does not fit x and indices");
  }
  void check_values() const { check_tuple_values(indices, strides, x.dim(0)); }
};

struct ScatterNd {
  static constexpr const char* name = "scatter_nd";
  Tensor y, indices, updates;  // [R, I], [N, D], [N, I]
  Ints strides;
  bool add;
  void* workspace = nullptr;
  static auto spec() {
    return fields(inout("y", &ScatterNd::y, kF32 | kI32 | kU8), values_checked(in("indices", &ScatterNd::indices, kI32)), in("updates", &ScatterNd::updates, kF32 | kI32 | kU8), par("strides", &ScatterNd::strides), par("add", &ScatterNd::add));
  }
  void check() const {
    require(y.shape.rank == 2 && updates.shape.rank == 2, "y and updates have ranks %d and %d, expected 2", y.shape.rank, updates.shape.rank);
    require(y.dtype == updates.dtype, "updates is %s, expected %s like y", name_of(updates.dtype), name_of(y.dtype));
    check_tuples(indices, strides);
    require(updates.dim(0) == indices.dim(0) && updates.dim(1) == y.dim(1), "updates does not fit y and indices");
  }
  void check_values() const { check_tuple_values(indices, strides, y.dim(0)); }
  size_t workspace_bytes() const { return 0; }
  size_t cuda_workspace_bytes() const { return sorted_rows_bytes(indices.dim(0)); }
};

struct SegmentSum {
  static constexpr const char* name = "segment_sum";
  Tensor x, ids, y;  // [N, I], [N], [S, I]
  void* workspace = nullptr;
  static auto spec() { return fields(in("x", &SegmentSum::x, kF32 | kI32), in("ids", &SegmentSum::ids, kI32), out("y", &SegmentSum::y, kF32 | kI32)); }
  void check() const {
    require(x.shape.rank == 2 && ids.shape.rank == 1 && y.shape.rank == 2, "x, ids, y have ranks %d, %d, %d, expected 2, 1, 2", x.shape.rank, ids.shape.rank, y.shape.rank);
    require(x.dtype == y.dtype, "y is %s, expected %s like x", name_of(y.dtype), name_of(x.dtype));
    require(ids.dim(0) == x.dim(0) && y.dim(1) == x.dim(1), "ids or y do not fit x");
  }
  size_t workspace_bytes() const { return 0; }
  size_t cuda_workspace_bytes() const { return sorted_rows_bytes(ids.dim(0)); }
};

struct OneHot {
  static constexpr const char* name = "one_hot";
  Tensor indices, y;  // [N], [N, D]
  double on, off;
  static auto spec() { return fields(in("indices", &OneHot::indices, kI32), out("y", &OneHot::y, kF32 | kI32 | kU8), par("on", &OneHot::on), par("off", &OneHot::off)); }
  void check() const {
    require(indices.shape.rank == 1 && y.shape.rank == 2 && y.dim(0) == indices.dim(0), "y must have shape [%lld, depth]", static_cast<long long>(indices.count()));
    require(y.dtype == DType::f32 || (on >= -2147483648.0 && on <= 2147483647.0 && off >= -2147483648.0 && off <= 2147483647.0), "on and off are %g and %g, expected integers", on, off);
  }
};

}  // namespace simmim
