// How often each number occurs in a row: y[r, v] = sum over n with x[r, n] = v of weights[r, n] (1 where there are none); with
// `binary` 1 where v occurs at all. Numbers from S on are left out. Parallel over rows; a long row is cut into pieces whose
// counts are added in order; on a GPU over numbers, float weights being sorted by bin first. Bytes: one read of x and weights, one write of y.
#pragma once
#include "../core/spec.h"
#include "sorted_rows.h"

namespace simmim {

struct Bincount {
  static constexpr const char* name = "bincount";
  Tensor x, weights, y;  // [R, N], [R, N] or absent, [R, S]
  bool binary;
  void* workspace = nullptr;
  static auto spec() { return fields(values_checked(in("x", &Bincount::x, kI32)), optional_in("weights", &Bincount::weights, kF32 | kI32), out("y", &Bincount::y, kF32 | kI32), par("binary", &Bincount::binary)); }
  void check() const {
    require(x.shape.rank == 2 && y.shape.rank == 2 && x.dim(0) == y.dim(0), "x and y have ranks %d and %d, expected 2, and one number of rows", x.shape.rank, y.shape.rank);
    require(!weights.present() || weights.shape == x.shape, "weights has %lld values, expected the shape of x with %lld", static_cast<long long>(weights.count()), static_cast<long long>(x.count()));
    require(!weights.present() || weights.dtype == y.dtype, "y is %s, expected %s like weights", name_of(y.dtype), name_of(weights.dtype));
  }
  void check_values() const {
    const int32_t* v = x.i32();
    int32_t signs = 0;
    for (int64_t i = 0; i < x.count(); i++) signs |= v[i];
    if (signs >= 0) return;
    for (int64_t i = 0; i < x.count(); i++) require(v[i] >= 0, "Input x must be non-negative! x holds %d", v[i]);
  }
  /// Pieces of a row; depends on the shape alone.
  SIMMIM_INLINE int64_t pieces() const {
    const int64_t wanted = x.dim(1) / 65536, fitting = (int64_t{1} << 20) / (y.dim(1) + 1);
    const int64_t most = wanted < fitting ? wanted : fitting;
    return x.dim(0) > 4 || most < 2 ? 1 : most > 16 ? 16 : most;
  }
  /// Counts of each row's pieces.
  size_t workspace_bytes() const { return static_cast<size_t>(y.count() * pieces()) * 4; }
  /// A GPU sorts the numbers where it adds floats, and otherwise counts in whole numbers.
  bool sums_floats() const { return weights.present() && weights.dtype == DType::f32 && !binary; }
  size_t cuda_workspace_bytes() const { return sums_floats() ? static_cast<size_t>(power_of_two_from(x.count())) * 8 : y.dtype == DType::f32 ? y.bytes() : 0; }
};

}  // namespace simmim
