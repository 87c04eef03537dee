// y[y_offset + sum i_d ys_d] = x[x_offset + sum i_d xs_d] over all i in dims: the one kernel behind transpose, slices,
// concatenation, padding, tiling, reversal and space/batch/depth rearrangements. Strides count elements, may be
// negative, and 0 repeats. y is written in place where dims say, and keeps its other elements.
// Long runs are memory copies; where the runs of x and y lie along different dims, 16 x 16 tiles are transposed in
// registers and cache. Parallel over ranges of rows or tiles. Bytes: one read, one write of prod(dims) elements.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct StridedCopy {
  static constexpr const char* name = "strided_copy";
  Tensor x, y;
  Ints dims, x_strides, y_strides;
  int64_t x_offset, y_offset;
  static auto spec() {
    return fields(in("x", &StridedCopy::x, kStored), inout("y", &StridedCopy::y, kStored), par("dims", &StridedCopy::dims), par("x_strides", &StridedCopy::x_strides),
                  par("y_strides", &StridedCopy::y_strides), par("x_offset", &StridedCopy::x_offset), par("y_offset", &StridedCopy::y_offset));
  }
  void check_inside(const char* which, const Ints& strides, int64_t offset, const Tensor& t) const {
    double lowest = static_cast<double>(offset), highest = lowest;
    for (int i = 0; i < dims.size; i++) {
      const double reach = static_cast<double>(strides[i]) * static_cast<double>(dims[i] - 1);
      (reach < 0 ? lowest : highest) += reach;
    }
    require(lowest >= 0 && highest < static_cast<double>(t.count()), "elements %.0f to %.0f of %s are asked for, it has %lld", lowest, highest, which, static_cast<long long>(t.count()));
  }
  void check() const {
    require(x.dtype == y.dtype, "y is %s, expected %s like x", name_of(y.dtype), name_of(x.dtype));
    require(dims.size == x_strides.size && dims.size == y_strides.size, "dims, x_strides and y_strides have %d, %d and %d entries", dims.size, x_strides.size, y_strides.size);
    bool empty = false;
    for (int i = 0; i < dims.size; i++) {
      require(dims[i] >= 0 && dims[i] <= (int64_t{1} << 40), "dims[%d] is %lld", i, static_cast<long long>(dims[i]));
      empty = empty || dims[i] == 0;
    }
    if (empty) return;
    check_inside("x", x_strides, x_offset, x);
    check_inside("y", y_strides, y_offset, y);
  }
};

SIMMIM_INLINE int64_t absolute(int64_t v) { return v < 0 ? -v : v; }

/// Collapsed dims, outermost (largest step in y) first.
struct CopyPlan {
  int rank = 0;
  int64_t dims[Ints::kCapacity + 1], xs[Ints::kCapacity + 1], ys[Ints::kCapacity + 1];
  SIMMIM_INLINE int64_t count() const {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= dims[i];
    return n;
  }
  SIMMIM_INLINE void remove(int at) {
    rank--;
    for (int i = at; i < rank; i++) dims[i] = dims[i + 1], xs[i] = xs[i + 1], ys[i] = ys[i + 1];
  }
};

/// Neighbouring dims that x and y walk alike become one; at least one dim is left.
SIMMIM_INLINE CopyPlan copy_plan(const StridedCopy& k) {
  CopyPlan p;
  for (int i = 0; i < k.dims.size; i++) {
    if (k.dims[i] == 1) continue;
    int at = p.rank++;
    for (; at > 0 && absolute(p.ys[at - 1]) < absolute(k.y_strides[i]); at--) p.dims[at] = p.dims[at - 1], p.xs[at] = p.xs[at - 1], p.ys[at] = p.ys[at - 1];
    p.dims[at] = k.dims[i], p.xs[at] = k.x_strides[i], p.ys[at] = k.y_strides[i];
  }
  for (int i = p.rank - 2; i >= 0; i--)
    if (p.xs[i] == p.xs[i + 1] * p.dims[i + 1] && p.ys[i] == p.ys[i + 1] * p.dims[i + 1]) {
      p.dims[i + 1] *= p.dims[i];
      p.remove(i);
    }
  if (p.rank == 0) {
    p.rank = 1;
    p.dims[0] = p.xs[0] = p.ys[0] = 1;
  }
  return p;
}

}  // namespace simmim
