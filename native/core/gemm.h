// The arguments of a matrix product with its finishing, the same on every device.
#pragma once
#include "tensor.h"

namespace simmim {

/// An optional M x N matrix beside C, with C's leading dimension.
struct Side {
  void* data = nullptr;
  DType dtype = DType::f32;
};

/// v = sum; v += bias; `pre` = v; v = GELU(v) if `gelu`; v *= GELU'(gelu_of); v += residual; C = v.
struct Gemm {
  int64_t m = 0, n = 0, k = 0;
  DType operands = DType::f32;        // of A and B: f32 or bf16
  const void* a = nullptr;            // [M, K], or [K, M] when transpose_a
  int64_t lda = 0;
  bool transpose_a = false;
  const void* b = nullptr;            // [K, N], or [N, K] when transpose_b
  int64_t ldb = 0;
  bool transpose_b = false;
  void* c = nullptr;                  // [M, N]
  int64_t ldc = 0;
  DType result = DType::f32;          // of C: f32 or bf16
  bool accumulate = false;            // v = C + sum; f32 C without finishing only
  const float* bias = nullptr;        // [N]
  Side pre;                           // written: the value before GELU
  bool gelu = false;
  Side gelu_of;                       // read: pre-activations whose GELU derivative multiplies v
  Side residual;                      // read
  float* row_sums = nullptr;          // [M], written: sums of op(A) over K, while it is packed (bias gradients)
};

/// Rows whose sums (of a bias gradient) are one partial result; a constant, so that the order of a sum is the shape's alone.
constexpr int64_t kRowChunk = 128;
SIMMIM_INLINE int64_t row_chunks(int64_t rows) { return (rows + kRowChunk - 1) / kRowChunk; }

}  // namespace simmim
