#include "matmul.h"

#include "../cpu/gemm.h"
#include "../cpu/reduce.h"
#include "../cpu/thread_pool.h"

namespace simmim::SIMMIM_ISA {

void run(const Unary& k);

/// Integers wrap around as in the language of the caller; unsigned arithmetic makes that defined.
static void multiply_integers(const Matmul& k, const uint32_t* a, const uint32_t* b, uint32_t* y) {
  const int64_t m = k.y.dim(1), n = k.y.dim(2), depth = k.depth();
  const int64_t a_row = k.transpose_a ? 1 : depth, a_column = k.transpose_a ? m : 1;
  const int64_t b_row = k.transpose_b ? 1 : n, b_column = k.transpose_b ? depth : 1;
  parallel_ranges(m, 1 + 65536 / (1 + n * depth), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      uint32_t* row = y + i * n;
      for (int64_t j = 0; j < n; j++) row[j] = 0;
      for (int64_t p = 0; p < depth; p++) {
        const uint32_t x = a[i * a_row + p * a_column];
        for (int64_t j = 0; j < n; j++) row[j] += x * b[p * b_row + j * b_column];
      }
    }
  });
}

/// Up to so many multiplications take less time than deciding how to cut and pack a product.
constexpr int64_t kFew = 2048;

SIMMIM_INLINE Vec row_of_b(const Gemm& g, int64_t p, int64_t j, int n) {
  const float* b = static_cast<const float*>(g.b);
  if (!g.transpose_b) return load_lanes(b + p * g.ldb + j, n);
  Vec row{};
  for (int i = 0; i < n; i++) row[i] = b[(j + i) * g.ldb + p];
  return row;
}

/// The same chains of multiplications and additions as gemm's, four rows at a time.
static void multiply_few(const Gemm& g) {
  constexpr int64_t kRows = 4;
  const float* a = static_cast<const float*>(g.a);
  const int64_t a_row = g.transpose_a ? 1 : g.lda, a_column = g.transpose_a ? g.lda : 1;
  for (int64_t i = 0; i < g.m; i += kRows)
    for (int64_t j = 0; j < g.n; j += kLanes) {
      const int n = static_cast<int>(g.n - j < kLanes ? g.n - j : kLanes);
      const float* rows[kRows];  // the last one again where there are no more
      for (int64_t r = 0; r < kRows; r++) rows[r] = a + (i + r < g.m ? i + r : g.m - 1) * a_row;
      Vec sums[kRows] = {};
      for (int64_t p = 0; p < g.k; p++) {
        const Vec row = row_of_b(g, p, j, n);
        for (int64_t r = 0; r < kRows; r++) sums[r] = fma(splat(rows[r][p * a_column]), row, sums[r]);
      }
      for (int64_t r = 0; r < kRows && i + r < g.m; r++) store_lanes(static_cast<float*>(g.c) + (i + r) * g.ldc + j, g.bias ? sums[r] + load_lanes(g.bias + j, n) : sums[r], n);
    }
}

static void multiply_one(const Matmul& k, int64_t batch) {
  const int64_t m = k.y.dim(1), n = k.y.dim(2), depth = k.depth();
  const int64_t a_at = k.a.dim(0) == 1 ? 0 : batch * m * depth, b_at = k.b.dim(0) == 1 ? 0 : batch * depth * n, y_at = batch * m * n;
  if (k.a.dtype == DType::i32) return multiply_integers(k, k.a.as<uint32_t>() + a_at, k.b.as<uint32_t>() + b_at, k.y.as<uint32_t>() + y_at);
  Gemm g;
  g.m = m, g.n = n, g.k = depth;
  g.a = k.a.f32() + a_at, g.lda = k.transpose_a ? m : depth, g.transpose_a = k.transpose_a;
  g.b = k.b.f32() + b_at, g.ldb = k.transpose_b ? depth : n, g.transpose_b = k.transpose_b;
  g.c = k.y.f32() + y_at, g.ldc = n;
  g.bias = k.bias.present() ? k.bias.f32() : nullptr;
  if (m * n * depth <= kFew) multiply_few(g);
  else gemm(g);
  if (k.activation != kNoActivation) run(activation_of(k.y.f32() + y_at, m * n, k.activation, k.alpha));
}

void run(const Matmul& k) {
  const int64_t batch = k.y.dim(0), work = k.y.dim(1) * k.y.dim(2) * (k.depth() + 1);
  if (work > 1 << 24 || batch == 1) {
    for (int64_t i = 0; i < batch; i++) multiply_one(k, i);
  } else {
    parallel_ranges(batch, 1 + (1 << 18) / (1 + work), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) multiply_one(k, i);
    });
  }
}

}  // namespace simmim::SIMMIM_ISA
