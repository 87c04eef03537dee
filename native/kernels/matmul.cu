#include "matmul.h"

#include "../cuda/gemm.h"
#include "../cuda/launch.cuh"
#include "../cuda/products.h"

namespace simmim::cuda {

void run(const Unary& k, Stream& stream);

namespace {

/// Integers wrap around as in the language of the caller; one thread per value.
struct MultiplyIntegers {
  const uint32_t *a, *b;
  uint32_t* y;
  int64_t m, n, depth, a_step, b_step;
  int64_t a_row, a_column, b_row, b_column;
  __device__ void operator()(int64_t at) const {
    const int64_t j = at % n, i = at / n % m, batch = at / n / m;
    const uint32_t *p = a + batch * a_step + i * a_row, *q = b + batch * b_step + j * b_column;
    uint32_t sum = 0;
    for (int64_t l = 0; l < depth; l++) sum += p[l * a_column] * q[l * b_row];
    y[at] = sum;
  }
};

}  // namespace

void run(const Matmul& k, Stream& stream) {
  const int64_t batch = k.y.dim(0), m = k.y.dim(1), n = k.y.dim(2), depth = k.depth();
  const int64_t a_step = k.a.dim(0) == 1 ? 0 : m * depth, b_step = k.b.dim(0) == 1 ? 0 : depth * n;
  if (k.y.count() == 0) return;
  if (k.a.dtype == DType::i32) {
    const MultiplyIntegers multiply{k.a.as<uint32_t>(), k.b.as<uint32_t>(), k.y.as<uint32_t>(), m, n, depth, a_step, b_step,
                                    k.transpose_a ? 1 : depth, k.transpose_a ? m : 1, k.transpose_b ? 1 : n, k.transpose_b ? depth : 1};
    return for_each(stream, k.y.count(), multiply);
  }
  Gemm g;
  g.m = m, g.n = n, g.k = depth;
  g.a = k.a.data, g.lda = k.transpose_a ? m : depth, g.transpose_a = k.transpose_a;
  g.b = k.b.data, g.ldb = k.transpose_b ? depth : n, g.transpose_b = k.transpose_b;
  g.c = k.y.data, g.ldc = n;
  g.bias = k.bias.f32();
  gemm_batch(g, batch, a_step, b_step, stream);
  if (k.activation != kNoActivation) run(activation_of(k.y.f32(), k.y.count(), k.activation, k.alpha), stream);
}

}  // namespace simmim::cuda
