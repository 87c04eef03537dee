// The activation that a product may end with: one of unary_ops.h's functions, by its number, or none. It runs over results
// that are still in cache.
#pragma once
#include "unary.h"

namespace simmim {

constexpr int32_t kNoActivation = -1;

inline void check_activation(int32_t op) {
  require(op == kNoActivation || (op >= 0 && op < Unary::count), "activation is %d, expected %d or a unary function", op, kNoActivation);
}

/// y = op(y), in place. For the host: device code has no constructor of Tensor.
inline __attribute__((always_inline)) Unary activation_of(float* y, int64_t count, int32_t op, float alpha) {
  Unary k;
  k.x.data = k.y.data = y;
  k.x.shape.rank = k.y.shape.rank = 1;
  k.x.shape.dims[0] = k.y.shape.dims[0] = count;
  k.op = op;
  k.a = alpha;
  k.b = 0;
  return k;
}

}  // namespace simmim
