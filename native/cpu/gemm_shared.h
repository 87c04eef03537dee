// What the matrix products of all instruction-set levels share: arguments, the table of inner functions, scratch.
#pragma once
#include "../core/tensor.h"

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

constexpr int kMaxTileRows = 14;

/// The inner functions of one way to multiply (gemm_kernel.h, gemm_finish.h).
struct GemmKernels {
  /// One per row count (entry 0 is unused): padding the last panel instead would cost 9 % at 128 rows.
  void (*tiles[kMaxTileRows + 1])(int64_t k, const float* a, const float* b, float* c, int64_t ldc, bool add);
  /// Finishes sums [m, n] (row pitch ld) into C from row i0, column j0 on.
  void (*finish)(const Gemm& g, const float* sums, int64_t ld, int64_t i0, int64_t m, int64_t j0, int64_t n);
};

/// Those on native bf16 dot products, with AVX-512's tile; defined where SIMMIM_BF16_DOT is.
const GemmKernels& bf16_dot_kernels();

enum class GemmBuffer : int { packed_a, packed_b, partial, slices, attention };

/// Scratch of this thread, kept for reuse: at least `floats` floats, 64-byte aligned, valid until the thread asks
/// for the same buffer again. Not compiled per level, because it needs the runtime library.
float* gemm_buffer(GemmBuffer which, size_t floats);

}  // namespace simmim
