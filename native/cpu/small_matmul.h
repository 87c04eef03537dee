// Small products whose operands are in cache: no packing, A is broadcast element by element, B is read in whole
// registers. The width of B and C is a number of registers; callers keep rows padded to that.
// Every element is one fused multiply-add chain over k, whatever tile it falls in.
#pragma once
#include "vec.h"

namespace simmim::SIMMIM_ISA {

#if defined(__AVX512F__)
constexpr int kSmallRows[5] = {0, 14, 12, 9, 6};  // rows of a tile by its width in registers: 32 registers in all
#else
constexpr int kSmallRows[5] = {0, 8, 6, 4, 3};  // 16 registers
#endif

template <int MR, int NV, bool TransposeA>
static void small_tile(int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, const float* from, int64_t ldfrom, float* c, int64_t ldc) {
  Vec sums[MR][NV];
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) sums[i][j] = from ? load(from + i * ldfrom + j * kLanes) : Vec{};
  for (int64_t p = 0; p < k; p++) {
    Vec row[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) row[j] = load(b + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      const Vec x = splat(TransposeA ? a[i] : a[i * lda]);
#pragma GCC unroll 4
      for (int j = 0; j < NV; j++) sums[i][j] = fma(x, row[j], sums[i][j]);
    }
    a += TransposeA ? lda : 1;
    b += ldb;
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) store(c + i * ldc + j * kLanes, sums[i][j]);
}

/// The tile of `rows` rows, found by counting down from the tallest.
template <int MR, int NV, bool TransposeA>
SIMMIM_INLINE void small_tile_of(int64_t rows, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, const float* from, int64_t ldfrom, float* c, int64_t ldc) {
  if constexpr (MR > 0) {
    if (rows == MR) return small_tile<MR, NV, TransposeA>(k, a, lda, b, ldb, from, ldfrom, c, ldc);
    small_tile_of<MR - 1, NV, TransposeA>(rows, k, a, lda, b, ldb, from, ldfrom, c, ldc);
  }
}

/// One column of tiles, NV registers wide; rows are dealt out evenly.
template <int NV, bool TransposeA, class Meanwhile>
static void small_column(int64_t m, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, const float* from, int64_t ldfrom, float* c, int64_t ldc, const Meanwhile& meanwhile) {
  int64_t tiles = (m + kSmallRows[NV] - 1) / kSmallRows[NV];
  for (int64_t i = 0; tiles > 0; tiles--) {
    const int64_t rows = (m - i) / tiles;
    meanwhile();
    small_tile_of<kSmallRows[NV], NV, TransposeA>(rows, k, a + (TransposeA ? i : i * lda), lda, b, ldb, from ? from + i * ldfrom : nullptr, ldfrom, c + i * ldc, ldc);
    i += rows;
  }
}

struct NothingMeanwhile {
  SIMMIM_INLINE void operator()() const {}
};

/// C[m, width] = op(A) B[k, width], plus `from` where it is given, which may be C; op(A) is A[m, k], or A[k, m] transposed. width is
/// in registers. meanwhile() is called once a tile, every few hundred cycles: the place to ask for what is needed later.
template <bool TransposeA, class Meanwhile = NothingMeanwhile>
static void small_matmul(int64_t m, int64_t width, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, const float* from, int64_t ldfrom, float* c, int64_t ldc, const Meanwhile& meanwhile = {}) {
  while (width > 0) {
    // Wide tiles broadcast less; a single register at the end is slow: 5 = 3 + 2, 6 = 3 + 3.
    const int64_t take = width == 4 || width > 6 ? 4 : width >= 3 ? 3 : width;
    if (take == 4) small_column<4, TransposeA>(m, k, a, lda, b, ldb, from, ldfrom, c, ldc, meanwhile);
    else if (take == 3) small_column<3, TransposeA>(m, k, a, lda, b, ldb, from, ldfrom, c, ldc, meanwhile);
    else if (take == 2) small_column<2, TransposeA>(m, k, a, lda, b, ldb, from, ldfrom, c, ldc, meanwhile);
    else small_column<1, TransposeA>(m, k, a, lda, b, ldb, from, ldfrom, c, ldc, meanwhile);
    width -= take;
    b += take * kLanes;
    c += take * kLanes;
    if (from) from += take * kLanes;
  }
}

}  // namespace simmim::SIMMIM_ISA
