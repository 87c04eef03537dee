// y = op(a, b), element by element, the smaller operand repeated as numpy does; binary_ops.h lists the functions.
// a and b have one dtype; arithmetic gives that dtype (floor_div: int32), comparisons give 0 or 1 as u8.
// Dimensions that both operands walk alike are collapsed, so most calls are one long row. Parallel over pieces
// of the output. Bytes: one read of a and b, one write of y.
#pragma once
#include "../core/spec.h"
#include "binary_ops.h"

namespace simmim {

/// Where the operands of a broadcast lie: collapsed dims, and per operand a step of elements (0 = repeated).
struct Broadcast {
  int rank = 0;
  int64_t dims[kMaxRank], a_steps[kMaxRank], b_steps[kMaxRank];
};

SIMMIM_INLINE int64_t aligned_dim(const Shape& shape, int i, int rank) {
  const int at = i - (rank - shape.rank);
  return at < 0 ? 1 : shape.dims[at];
}

SIMMIM_INLINE Broadcast collapse_broadcast(const Shape& a, const Shape& b, const Shape& y) {
  Broadcast out;
  int64_t a_step = 1, b_step = 1;
  int64_t dims[kMaxRank], as[kMaxRank], bs[kMaxRank];
  int n = 0;  // innermost first
  for (int i = y.rank - 1; i >= 0; i--) {
    const int64_t size = y.dims[i];
    if (size == 1) continue;
    const int64_t ad = aligned_dim(a, i, y.rank), bd = aligned_dim(b, i, y.rank);
    const int64_t sa = ad == 1 ? 0 : a_step, sb = bd == 1 ? 0 : b_step;
    if (n > 0 && sa == as[n - 1] * dims[n - 1] && sb == bs[n - 1] * dims[n - 1]) {
      dims[n - 1] *= size;
    } else {
      dims[n] = size;
      as[n] = sa;
      bs[n++] = sb;
    }
    a_step *= ad;
    b_step *= bd;
  }
  if (n == 0) {
    dims[0] = 1;
    as[0] = bs[0] = 1;
    n = 1;
  }
  out.rank = n;
  for (int i = 0; i < n; i++) {
    out.dims[i] = dims[n - 1 - i];
    out.a_steps[i] = as[n - 1 - i];
    out.b_steps[i] = bs[n - 1 - i];
  }
  return out;
}

/// y must be the broadcast of a and b.
inline void check_broadcast(const Tensor& a, const Tensor& b, const Tensor& y) {
  const int rank = a.shape.rank > b.shape.rank ? a.shape.rank : b.shape.rank;
  require(y.shape.rank == rank, "y has rank %d, expected %d", y.shape.rank, rank);
  for (int i = 0; i < rank; i++) {
    const int64_t ad = aligned_dim(a.shape, i, rank), bd = aligned_dim(b.shape, i, rank);
    require(ad == bd || ad == 1 || bd == 1, "a and b differ in dimension %d: %lld and %lld", i, static_cast<long long>(ad), static_cast<long long>(bd));
    const int64_t wanted = ad == 1 ? bd : ad;
    require(y.shape.dims[i] == wanted, "y has %lld in dimension %d, expected %lld", static_cast<long long>(y.shape.dims[i]), i, static_cast<long long>(wanted));
  }
}

struct Binary {
  static constexpr const char* name = "binary";
  enum Op : int32_t { SIMMIM_ARITHMETIC_OPS(SIMMIM_OP_ID) count };
  static constexpr const char* ops = SIMMIM_ARITHMETIC_OPS(SIMMIM_OP_NAME);
  Tensor a, b, y;
  int32_t op;
  static auto spec() { return fields(in("a", &Binary::a, kF32 | kI32), in("b", &Binary::b, kF32 | kI32), out("y", &Binary::y, kF32 | kI32), par("op", &Binary::op)); }
  void check() const {
    require(op >= 0 && op < count, "op is %d, expected 0 to %d", op, count - 1);
    require(a.dtype == b.dtype, "b is %s, expected %s like a", name_of(b.dtype), name_of(a.dtype));
    const DType wanted = op == floor_div ? DType::i32 : a.dtype;
    require(y.dtype == wanted, "y is %s, expected %s", name_of(y.dtype), name_of(wanted));
    require(op != bitwise_and || a.dtype == DType::i32, "bitwise_and takes int32, a is %s", name_of(a.dtype));
    check_broadcast(a, b, y);
  }
};

struct Compare {
  static constexpr const char* name = "compare";
  enum Op : int32_t { SIMMIM_COMPARISON_OPS(SIMMIM_OP_ID) count };
  static constexpr const char* ops = SIMMIM_COMPARISON_OPS(SIMMIM_OP_NAME);
  Tensor a, b, y;
  int32_t op;
  static auto spec() { return fields(in("a", &Compare::a, kF32 | kI32 | kU8), in("b", &Compare::b, kF32 | kI32 | kU8), out("y", &Compare::y, kU8), par("op", &Compare::op)); }
  void check() const {
    require(op >= 0 && op < count, "op is %d, expected 0 to %d", op, count - 1);
    require(a.dtype == b.dtype, "b is %s, expected %s like a", name_of(b.dtype), name_of(a.dtype));
    check_broadcast(a, b, y);
  }
};

/// y = condition ? t : e. The condition has the shape of t, or one value per row (first dimension) of t.
struct Select {
  static constexpr const char* name = "select";
  Tensor condition, t, e, y;
  static auto spec() { return fields(in("condition", &Select::condition, kU8), in("t", &Select::t, kAny), in("e", &Select::e, kAny), out("y", &Select::y, kAny)); }
  void check() const {
    require(t.dtype == e.dtype && t.dtype == y.dtype, "t, e and y are %s, %s and %s, expected one dtype", name_of(t.dtype), name_of(e.dtype), name_of(y.dtype));
    require(t.shape == e.shape && t.shape == y.shape, "t, e and y differ in shape");
    const int64_t n = condition.count();
    require(n > 0 ? t.count() % n == 0 : t.count() == 0, "condition has %lld values for %lld elements", static_cast<long long>(n), static_cast<long long>(t.count()));
  }
};

/// y = x in another storage type: floats truncate to integers modulo 2^32, anything but 0 is 1 in bool.
struct Cast {
  static constexpr const char* name = "cast";
  Tensor x, y;
  bool boolean;  // to u8: 0 or 1 instead of the low byte
  static auto spec() { return fields(in("x", &Cast::x, kStored), out("y", &Cast::y, kStored), par("boolean", &Cast::boolean)); }
  void check() const {
    require(x.shape == y.shape, "y has another shape than x");
    const bool half = x.dtype == DType::bf16 || y.dtype == DType::bf16;
    require(!half || x.dtype == y.dtype || x.dtype == DType::f32 || y.dtype == DType::f32, "no cast from %s to %s", name_of(x.dtype), name_of(y.dtype));
  }
};

}  // namespace simmim
