// y[r, :] = exp(x[r, :] - max) / sum: the softmax of each row. Parallel over rows. Bytes: one read of x, one write of y.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct Softmax {
  static constexpr const char* name = "softmax";
  Tensor x, y;  // [R, N]
  static auto spec() { return fields(in("x", &Softmax::x, kF32), out("y", &Softmax::y, kF32)); }
  void check() const { require(x.shape.rank == 2 && x.shape == y.shape, "x and y must have the same shape of rank 2, x has rank %d", x.shape.rank); }
};

}  // namespace simmim
