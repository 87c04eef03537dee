// Sparse matrices as index lists, and sums over segments of rows.
//   sparse_segment      y[s, :] = sum (or mean) of x[indices[n], :] over the n with ids[n] = s; ids grow; 0 where there is none
//   sparse_fill_rows    entries (indices [N, D], values [N]) of a matrix of R rows, in the order of their rows, with one entry
//                       (row, 0, ...) = fill for every row that has none: filled_indices and filled_values hold N + R, of which
//                       `count` are in use; empty [R] marks those rows; places[n] is where entry n went
//   sparse_reshape      index tuples of one shape as those of another with as many elements
// check_values() refuses what lies outside; a replayed program leaves it out. Parallel over segments or entries; finding the places of sparse_fill_rows is one pass over the rows in order.
#pragma once
#include "../core/spec.h"
#include "sorted_rows.h"

namespace simmim {

struct SparseSegment {
  static constexpr const char* name = "sparse_segment";
  Tensor x, indices, ids, y;  // [R, I], [N], [N], [S, I]
  bool mean;
  static auto spec() { return fields(in("x", &SparseSegment::x, kF32 | kI32), values_checked(in("indices", &SparseSegment::indices, kI32)), values_checked(in("ids", &SparseSegment::ids, kI32)), out("y", &SparseSegment::y, kF32 | kI32), par("mean", &SparseSegment::mean)); }
  void check() const {
    require(x.shape.rank == 2 && indices.shape.rank == 1 && ids.shape.rank == 1 && y.shape.rank == 2, "x, indices, ids, y have ranks %d, %d, %d, %d, expected 2, 1, 1, 2", x.shape.rank, indices.shape.rank, ids.shape.rank, y.shape.rank);
    require(x.dtype == y.dtype, "y is %s, expected %s like x", name_of(y.dtype), name_of(x.dtype));
    require(indices.shape == ids.shape && y.dim(1) == x.dim(1), "ids or y do not fit indices and x");
  }
  void check_values() const {
    const int64_t n = ids.count(), rows = x.dim(0), segments = y.dim(0);
    for (int64_t i = 0; i < n; i++) {
      const int32_t id = ids.i32()[i], index = indices.i32()[i];
      require(i == 0 || id >= ids.i32()[i - 1], "segment ids are not increasing");
      require(id >= 0 && id < segments, "Segment id %d out of range [0, %lld), possibly because segmentIds input is not sorted.", id, static_cast<long long>(segments));
      require(index >= 0 && index < rows, "Bad: indices[%lld] == %d out of range [0, %lld)", static_cast<long long>(i), index, static_cast<long long>(rows));
    }
  }
};

struct SparseFillRows {
  static constexpr const char* name = "sparse_fill_rows";
  Tensor indices, values, filled_indices, filled_values, empty, places, count;  // [N, D], [N], [N + R, D], [N + R], [R], [N], [1]
  double fill;
  void* workspace = nullptr;
  static auto spec() {
    return fields(values_checked(in("indices", &SparseFillRows::indices, kI32)), in("values", &SparseFillRows::values, kF32 | kI32 | kU8), out("filled_indices", &SparseFillRows::filled_indices, kI32), out("filled_values", &SparseFillRows::filled_values, kF32 | kI32 | kU8),
                  out("empty", &SparseFillRows::empty, kU8), out("places", &SparseFillRows::places, kI32), out("count", &SparseFillRows::count, kI32), par("fill", &SparseFillRows::fill));
  }
  void check() const {
    require(indices.shape.rank == 2 && values.shape.rank == 1 && empty.shape.rank == 1, "indices, values, empty have ranks %d, %d, %d, expected 2, 1, 1", indices.shape.rank, values.shape.rank, empty.shape.rank);
    const int64_t n = indices.dim(0), depth = indices.dim(1), rows = empty.dim(0);
    require(values.dim(0) == n && places.count() == n && count.count() == 1, "values, places or count do not fit %lld entries", static_cast<long long>(n));
    require(values.dtype == filled_values.dtype, "filled_values is %s, expected %s like values", name_of(filled_values.dtype), name_of(values.dtype));
    require(depth >= 1 && filled_values.count() == n + rows && filled_indices.count() == (n + rows) * depth, "filled_indices or filled_values do not hold %lld entries", static_cast<long long>(n + rows));
  }
  void check_values() const {
    const int64_t n = indices.dim(0), depth = indices.dim(1), rows = empty.dim(0);
    for (int64_t i = 0; i < n; i++) {
      const int32_t row = indices.i32()[i * depth];
      require(row >= 0, "indices(%lld, 0) is invalid: %d < 0", static_cast<long long>(i), row);
      require(row < rows, "indices(%lld, 0) is invalid: %d >= %lld", static_cast<long long>(i), row, static_cast<long long>(rows));
    }
  }
  /// Where each row's next entry goes.
  size_t workspace_bytes() const { return static_cast<size_t>(empty.dim(0)) * sizeof(int64_t); }
  /// A GPU sorts the entries by row as well.
  size_t cuda_workspace_bytes() const { return static_cast<size_t>(power_of_two_from(indices.dim(0)) + empty.dim(0)) * 8; }
};

struct SparseReshape {
  static constexpr const char* name = "sparse_reshape";
  Tensor indices, y;  // [N, D], [N, E]
  Ints from, to;      // shapes
  static auto spec() { return fields(in("indices", &SparseReshape::indices, kI32), out("y", &SparseReshape::y, kI32), par("from", &SparseReshape::from), par("to", &SparseReshape::to)); }
  void check() const {
    require(indices.shape.rank == 2 && y.shape.rank == 2 && indices.dim(0) == y.dim(0), "indices and y have ranks %d and %d, expected 2, and one number of tuples", indices.shape.rank, y.shape.rank);
    require(indices.dim(1) == from.size && y.dim(1) == to.size, "indices and y are %lld and %lld wide, expected %d and %d", static_cast<long long>(indices.dim(1)), static_cast<long long>(y.dim(1)), from.size, to.size);
    for (int i = 0; i < from.size; i++) require(from[i] >= 0 && from[i] <= INT32_MAX, "from[%d] is %lld", i, static_cast<long long>(from[i]));
    for (int i = 0; i < to.size; i++) require(to[i] >= 0 && to[i] <= INT32_MAX, "to[%d] is %lld", i, static_cast<long long>(to[i]));
  }
};

}  // namespace simmim
