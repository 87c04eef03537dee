// Matrix products without finishing: what cuBLASLt computes (products_lt.cc) and what the emulation computes instead.
// Kernels use gemm.h, which adds the finishing.
#pragma once
#include <memory>

#include "../core/tensor.h"
#include "stream.h"

namespace simmim::cuda {

/// C[M,N] = op(A) op(B) + addend + bias, row-major with leading dimensions, `batch` times; f32 accumulation.
struct Product {
  int64_t m = 0, n = 0, k = 0, batch = 1;   // all > 0
  DType operands = DType::f32;              // of A and B: f32 or bf16
  const void* a = nullptr;                  // [M, K], or [K, M] when transpose_a
  const void* b = nullptr;                  // [K, N], or [N, K] when transpose_b
  int64_t lda = 0, ldb = 0, ldc = 0;
  bool transpose_a = false, transpose_b = false;
  int64_t a_step = 0, b_step = 0, c_step = 0;  // elements from one matrix of the batch to the next; 0 repeats it
  void* c = nullptr;                        // [M, N]
  DType result = DType::f32;                // of C, addend and bias: f32 or bf16
  const void* addend = nullptr;             // [M, N] with C's leading dimension, or C itself; optional
  const void* bias = nullptr;               // [N], optional
};

/// Same bits for the same product on the same device. Opens cuBLASLt at the first product.
class Products {
 public:
  Products();
  ~Products();
  void run(const Product& product, Stream& stream);
  /// Device memory of kScratch bytes whose content lasts until the next product.
  void* scratch();
  static constexpr size_t kScratch = 128 << 10;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace simmim::cuda
