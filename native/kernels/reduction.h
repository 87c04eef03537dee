// y[o, i] = reduction over n of x[o, n, i]: sums, extremes and products of a middle dimension; the caller brings
// other axis sets into this form. Sums run in float vectors over short blocks whose results are added in double,
// so a long sum keeps float precision. NaN wins over every number in max and min.
// Parallel over outputs, or, where there are few, over fixed blocks of n whose partial results combine in order.
// Bytes: one read of x.
#pragma once
#include "../core/spec.h"
#include "unary_ops.h"

namespace simmim {

#define SIMMIM_REDUCTIONS(OP) OP(sum) OP(mean) OP(max) OP(min) OP(prod) OP(all) OP(any)

inline void check_reduction(const Tensor& x, const Tensor& y) {
  require(x.shape.rank == 3, "x has rank %d, expected 3: outer, reduced, inner", x.shape.rank);
  require(y.shape.rank == 2 && y.dim(0) == x.dim(0) && y.dim(1) == x.dim(2), "y must have shape [%lld, %lld]", static_cast<long long>(x.dim(0)), static_cast<long long>(x.dim(2)));
}

constexpr int64_t kReduceBlock = 1 << 15;  // elements of n * inner per partial result

struct Reduce {
  static constexpr const char* name = "reduce";
  enum Op : int32_t { SIMMIM_REDUCTIONS(SIMMIM_OP_ID) count };
  static constexpr const char* ops = SIMMIM_REDUCTIONS(SIMMIM_OP_NAME);
  Tensor x, y;  // [O, N, I], [O, I]
  int32_t op;
  void* workspace = nullptr;
  static auto spec() { return fields(in("x", &Reduce::x, kF32 | kI32 | kU8), out("y", &Reduce::y, kF32 | kI32 | kU8), par("op", &Reduce::op)); }
  void check() const {
    require(op >= 0 && op < count, "op is %d, expected 0 to %d", op, count - 1);
    require(x.dtype == y.dtype, "y is %s, expected %s like x", name_of(y.dtype), name_of(x.dtype));
    require((op == all || op == any) == (x.dtype == DType::u8), "x is %s: all and any take bool, the others numbers", name_of(x.dtype));
    require(op != mean || x.dtype == DType::f32, "mean takes float32, x is %s", name_of(x.dtype));
    check_reduction(x, y);
  }
  /// Pieces that n is cut into when there are few outputs; depends on the shape alone.
  SIMMIM_INLINE int64_t pieces() const {
    const int64_t outer = x.dim(0), n = x.dim(1), inner = x.dim(2);
    if (outer * inner == 0 || outer >= 16 || n * inner < 2 * kReduceBlock || inner > kReduceBlock) return 1;
    return (n * inner + kReduceBlock - 1) / kReduceBlock;
  }
  /// On a GPU: pieces of at least 64 rows, or of 4096 values of one row, until some thousand warps have work.
  SIMMIM_INLINE int64_t cuda_pieces() const {
    const int64_t outer = x.dim(0), n = x.dim(1), inner = x.dim(2), outputs = outer * inner;
    if (outputs == 0) return 1;
    const int64_t most = n / (inner == 1 ? 4096 : 64), wanted = inner == 1 ? 1024 / outer : 131072 / outputs, pieces = most < wanted ? most : wanted;
    return pieces > 1 ? pieces : 1;
  }
  size_t cuda_workspace_bytes() const { return cuda_pieces() > 1 ? static_cast<size_t>(cuda_pieces() * x.dim(0) * x.dim(2)) * sizeof(double) : 0; }
  size_t workspace_bytes() const { return pieces() > 1 ? static_cast<size_t>(pieces() * x.dim(0) * x.dim(2)) * sizeof(double) : 0; }
};

/// y[o, i] = the first n where x[o, n, i] is largest (smallest).
struct ArgReduce {
  static constexpr const char* name = "arg_reduce";
  Tensor x, y;
  bool smallest;
  static auto spec() { return fields(in("x", &ArgReduce::x, kF32 | kI32 | kU8), out("y", &ArgReduce::y, kI32), par("smallest", &ArgReduce::smallest)); }
  void check() const { check_reduction(x, y); }
};

}  // namespace simmim
