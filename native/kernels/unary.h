// y = op(x), element by element; unary_ops.h lists the functions. x and y have the same shape.
// float32 runs on vectors; int32 is computed in doubles and truncated, as JavaScript does. Parallel over ranges.
// Bytes: one read of x, one write of y.
#pragma once
#include "../core/spec.h"
#include "unary_ops.h"

namespace simmim {

struct Unary {
  static constexpr const char* name = "unary";
  enum Op : int32_t { SIMMIM_UNARY_OPS(SIMMIM_OP_ID) count };
  static constexpr const char* ops = SIMMIM_UNARY_OPS(SIMMIM_OP_NAME);
  Tensor x, y;
  int32_t op;
  float a, b;  // alpha; lower and upper bound of clip
  static auto spec() {
    return fields(in("x", &Unary::x, kF32 | kI32), out("y", &Unary::y, kF32 | kI32), par("op", &Unary::op), par("a", &Unary::a), par("b", &Unary::b));
  }
  void check() const {
    require(op >= 0 && op < count, "op is %d, expected 0 to %d", op, count - 1);
    require(x.shape == y.shape, "y has %lld elements in its shape, expected the shape of x with %lld", static_cast<long long>(y.count()), static_cast<long long>(x.count()));
    require(x.dtype == DType::i32 || y.dtype == DType::f32, "y is int32, expected float32 like x");
  }
};

/// y = 1 where the question about x is answered with yes, else 0.
struct Predicate {
  static constexpr const char* name = "predicate";
  enum Op : int32_t { SIMMIM_PREDICATES(SIMMIM_OP_ID) count };
  static constexpr const char* ops = SIMMIM_PREDICATES(SIMMIM_OP_NAME);
  Tensor x, y;
  int32_t op;
  static auto spec() { return fields(in("x", &Predicate::x, kF32 | kI32 | kU8), out("y", &Predicate::y, kU8), par("op", &Predicate::op)); }
  void check() const {
    require(op >= 0 && op < count, "op is %d, expected 0 to %d", op, count - 1);
    require(x.shape == y.shape, "y has %lld elements in its shape, expected the shape of x with %lld", static_cast<long long>(y.count()), static_cast<long long>(x.count()));
  }
};

}  // namespace simmim
