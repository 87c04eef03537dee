// y[b] = act(op(a[b]) op(b[b]) + bias): tfjs's BatchMatMul and _FusedMatMul. f32, or int32 with wrap-around and nothing fused.
//   a [Ba, M, K] ([Ba, K, M] when transpose_a), b [Bb, K, N] ([Bb, N, K] when transpose_b), y [B, M, N];
//   Ba and Bb are B or 1 (one matrix for all), bias [N] or absent.
// Parallel over the batch when a product is small, inside each product otherwise. 2 B M N K flops.
#pragma once
#include "activation.h"

namespace simmim {

struct Matmul {
  static constexpr const char* name = "matmul";
  Tensor a, b, bias, y;
  bool transpose_a, transpose_b;
  int32_t activation;
  float alpha;
  static auto spec() {
    return fields(in("a", &Matmul::a, kF32 | kI32), in("b", &Matmul::b, kF32 | kI32), optional_in("bias", &Matmul::bias, kF32), out("y", &Matmul::y, kF32 | kI32),
                  par("transpose_a", &Matmul::transpose_a), par("transpose_b", &Matmul::transpose_b), par("activation", &Matmul::activation), par("alpha", &Matmul::alpha));
  }
  SIMMIM_INLINE int64_t depth() const { return a.dim(transpose_a ? 1 : 2); }
  void check() const {
    require(a.shape.rank == 3 && b.shape.rank == 3 && y.shape.rank == 3, "a, b, y have ranks %d, %d, %d, expected 3 = [B, rows, columns]", a.shape.rank, b.shape.rank, y.shape.rank);
    require(b.dtype == a.dtype && y.dtype == a.dtype, "b and y are %s and %s, expected %s as a", name_of(b.dtype), name_of(y.dtype), name_of(a.dtype));
    const int64_t m = a.dim(transpose_a ? 2 : 1), kb = b.dim(transpose_b ? 2 : 1), n = b.dim(transpose_b ? 1 : 2);
    require(kb == depth(), "b has an inner dimension of %lld, expected %lld as a", (long long)kb, (long long)depth());
    require(y.dim(1) == m && y.dim(2) == n, "y is [%lld, %lld], expected [%lld, %lld]", (long long)y.dim(1), (long long)y.dim(2), (long long)m, (long long)n);
    check_activation(activation);
    require(a.dtype == DType::f32 || (activation == kNoActivation && !bias.present()), "bias and activation are for float32, a is %s", name_of(a.dtype));
    require(!bias.present() || bias.count() == n, "bias has %lld values, expected %lld", (long long)bias.count(), (long long)n);
    require(a.dim(0) == y.dim(0) || a.dim(0) == 1, "a has a batch of %lld, expected %lld or 1", (long long)a.dim(0), (long long)y.dim(0));
    require(b.dim(0) == y.dim(0) || b.dim(0) == 1, "b has a batch of %lld, expected %lld or 1", (long long)b.dim(0), (long long)y.dim(0));
  }
};

}  // namespace simmim
