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

/// The last register of a row when only the lower half of its lanes matters: there are AVX2 machines with units of 128 bits, which
/// take half the time then. The upper half of the result is that of `from`, or zeros.
#if defined(__AVX2__) && !defined(__AVX512F__)
constexpr bool kHalves = true;
struct HalfRegister {
  __m128 v;
  SIMMIM_INLINE void load(const float* p) { v = _mm_loadu_ps(p); }
  SIMMIM_INLINE void add_product(Vec x, const float* b) { v = _mm_fmadd_ps(_mm256_castps256_ps128(x), _mm_loadu_ps(b), v); }
  SIMMIM_INLINE Vec whole(const float* from) const { return _mm256_set_m128(from ? _mm_loadu_ps(from + 4) : _mm_setzero_ps(), v); }
};
#else
constexpr bool kHalves = false;
struct HalfRegister {
  SIMMIM_INLINE void load(const float*) {}
  SIMMIM_INLINE void add_product(Vec, const float*) {}
  SIMMIM_INLINE Vec whole(const float*) const { return Vec{}; }
};
#endif

/// Where the rows of a product go: row(i, v) takes NV registers of row i, at(i, j) is the same place seen from row i and register j on.
struct StoreRows {
  float* c;
  int64_t ldc;
  SIMMIM_INLINE StoreRows at(int64_t i, int64_t j) const { return {c + i * ldc + j * kLanes, ldc}; }
  template <int NV>
  SIMMIM_INLINE void row(int64_t i, const Vec (&v)[NV]) const {
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) store(c + i * ldc + j * kLanes, v[j]);
  }
};

/// A tile of MR rows and NV registers, the last of which is a half one where HALF.
template <int MR, int NV, bool TransposeA, bool HALF, class Put>
static void small_tile(int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, const float* from, int64_t ldfrom, Put put) {
  constexpr int WHOLE = NV - HALF;
  Vec sums[MR][WHOLE];
  HalfRegister halves[MR] = {};
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < WHOLE; j++) sums[i][j] = from ? load(from + i * ldfrom + j * kLanes) : Vec{};
    if (HALF && from) halves[i].load(from + i * ldfrom + WHOLE * kLanes);
  }
  for (int64_t p = 0; p < k; p++) {
    Vec row[WHOLE];
#pragma GCC unroll 4
    for (int j = 0; j < WHOLE; j++) row[j] = load(b + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      const Vec x = splat(TransposeA ? a[i] : a[i * lda]);
#pragma GCC unroll 4
      for (int j = 0; j < WHOLE; j++) sums[i][j] = fma(x, row[j], sums[i][j]);
      if constexpr (HALF) halves[i].add_product(x, b + WHOLE * kLanes);
    }
    a += TransposeA ? lda : 1;
    b += ldb;
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++) {
    Vec row[NV];
#pragma GCC unroll 4
    for (int j = 0; j < WHOLE; j++) row[j] = sums[i][j];
    if constexpr (HALF) row[WHOLE] = halves[i].whole(from ? from + i * ldfrom + WHOLE * kLanes : nullptr);
    put.row(i, row);
  }
}

/// The tile of `rows` rows, found by counting down from the tallest.
template <int MR, int NV, bool TransposeA, bool HALF, class Put>
SIMMIM_INLINE void small_tile_of(int64_t rows, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, const float* from, int64_t ldfrom, Put put) {
  if constexpr (MR > 0) {
    if (rows == MR) return small_tile<MR, NV, TransposeA, HALF>(k, a, lda, b, ldb, from, ldfrom, put);
    small_tile_of<MR - 1, NV, TransposeA, HALF>(rows, k, a, lda, b, ldb, from, ldfrom, put);
  }
}

/// One column of tiles, NV registers wide; rows are dealt out evenly.
template <int NV, bool TransposeA, bool HALF = false, class Put, class Meanwhile>
static void small_column(int64_t m, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, const float* from, int64_t ldfrom, Put put, const Meanwhile& meanwhile) {
  int64_t tiles = (m + kSmallRows[NV] - 1) / kSmallRows[NV];
  for (int64_t i = 0; tiles > 0; tiles--) {
    const int64_t rows = (m - i) / tiles;
    meanwhile();
    small_tile_of<kSmallRows[NV], NV, TransposeA, HALF>(rows, k, a + (TransposeA ? i : i * lda), lda, b, ldb, from ? from + i * ldfrom : nullptr, ldfrom, put.at(i, 0));
    i += rows;
  }
}

struct NothingMeanwhile {
  SIMMIM_INLINE void operator()() const {}
};

/// put takes op(A) B[k, width], plus `from` where it is given, which may lie where put stores; op(A) is A[m, k], or A[k, m] transposed.
/// width is in registers; HALF: of the last one the upper half may be left out. meanwhile() is called once a tile, every few hundred
/// cycles: the place to ask for what is needed later.
template <bool TransposeA, bool HALF = false, class Put, class Meanwhile>
static void small_matmul_to(int64_t m, int64_t width, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, const float* from, int64_t ldfrom, Put put, const Meanwhile& meanwhile) {
  const auto column = [&]<int NV>(bool last) {
    if (HALF && kHalves && NV > 1 && last) small_column<NV, TransposeA, HALF && kHalves && (NV > 1)>(m, k, a, lda, b, ldb, from, ldfrom, put, meanwhile);
    else small_column<NV, TransposeA>(m, k, a, lda, b, ldb, from, ldfrom, put, meanwhile);
  };
  while (width > 0) {
    // Wide tiles broadcast less; a single register at the end is slow: 5 = 3 + 2, 6 = 3 + 3.
    const int64_t take = width == 4 || width > 6 ? 4 : width >= 3 ? 3 : width;
    const bool last = take == width;
    if (take == 4) column.template operator()<4>(last);
    else if (take == 3) column.template operator()<3>(last);
    else if (take == 2) column.template operator()<2>(last);
    else column.template operator()<1>(last);
    width -= take;
    b += take * kLanes;
    put = put.at(0, take);
    if (from) from += take * kLanes;
  }
}

/// The same into C[m, width].
template <bool TransposeA, bool HALF = false, class Meanwhile = NothingMeanwhile>
static void small_matmul(int64_t m, int64_t width, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, const float* from, int64_t ldfrom, float* c, int64_t ldc, const Meanwhile& meanwhile = {}) {
  small_matmul_to<TransposeA, HALF>(m, width, k, a, lda, b, ldb, from, ldfrom, StoreRows{c, ldc}, meanwhile);
}

}  // namespace simmim::SIMMIM_ISA
