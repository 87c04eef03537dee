// Running sums and products along the middle dimension: y[o, n, i] = x[o, 0..n, i] joined (exclusive: 0..n-1),
// from the end where `reverse`. Parallel over columns. Bytes: one read of x, one write of y.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct Scan {
  static constexpr const char* name = "scan";
  Tensor x, y;  // [O, N, I]
  bool product, exclusive, reverse;
  static auto spec() {
    return fields(in("x", &Scan::x, kF32 | kI32), out("y", &Scan::y, kF32 | kI32), par("product", &Scan::product), par("exclusive", &Scan::exclusive), par("reverse", &Scan::reverse));
  }
  void check() const {
    require(x.shape.rank == 3 && x.shape == y.shape, "x and y must have the same shape of rank 3, x has rank %d", x.shape.rank);
    require(x.dtype == y.dtype, "y is %s, expected %s like x", name_of(y.dtype), name_of(x.dtype));
  }
};

}  // namespace simmim
