// The micro-kernel: an MR x NR tile of C stays in registers while a panel of A and a panel of B stream by.
#pragma once
#include "gemm_shared.h"
#include "vec.h"

namespace simmim::SIMMIM_ISA {

// Tiles fill the register file: accumulators + one row of B + one broadcast of A.
#if defined(__AVX512F__)
constexpr int kTileRows = 14, kTileVecs = 2;
#else
constexpr int kTileRows = 6, kTileVecs = 2;
#endif
static_assert(kTileRows <= kMaxTileRows);
constexpr int kTileColumns = kTileVecs * kLanes;
/// Distance of two k-rows in a packed panel of A: whole registers, so that packing needs no masks.
constexpr int kPitchA = (kTileRows + kLanes - 1) / kLanes * kLanes;

struct MultiplyFloats {
  static SIMMIM_INLINE Vec apply(Vec a, Vec b, Vec sum) { return a * b + sum; }
};
#if defined(__AVX512BF16__)
/// Units are pairs of bf16: sum += a.high * b.high, then += a.low * b.low.
struct MultiplyPairs {
  static SIMMIM_INLINE Vec apply(Vec a, Vec b, Vec sum) { return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)); }
};
#endif

/// C[ROWS, NR] = sum over k of a[k][row] * b[k][column], plus `earlier` where there is one. Panels as gemm_pack.h makes them, k in units.
template <int ROWS, class Multiply>
static void tile(int64_t k, const float* a, const float* b, const float* earlier, float* c, int64_t ld_earlier, int64_t ldc) {
  const float* first = earlier ? earlier : c;  // what is touched first afterwards
  const int64_t ld_first = earlier ? ld_earlier : ldc;
  Vec sum[ROWS][kTileVecs];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
    for (int j = 0; j < kTileVecs; j++) sum[i][j] = Vec{};
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++) {
    __builtin_prefetch(first + i * ld_first, 1);
    __builtin_prefetch(first + i * ld_first + kTileColumns - 1, 1);
  }
  for (int64_t p = 0; p < k; p++, a += kPitchA, b += kTileColumns) {
    Vec row[kTileVecs];
#pragma GCC unroll 4
    for (int j = 0; j < kTileVecs; j++) row[j] = load(b + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
      const Vec x = splat(a[i]);
#pragma GCC unroll 4
      for (int j = 0; j < kTileVecs; j++) sum[i][j] = Multiply::apply(x, row[j], sum[i][j]);
    }
  }
  if (earlier) {
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
      for (int j = 0; j < kTileVecs; j++) sum[i][j] += load(earlier + i * ld_earlier + j * kLanes);
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
    for (int j = 0; j < kTileVecs; j++) store(c + i * ldc + j * kLanes, sum[i][j]);
}

template <class Multiply, int ROWS = kTileRows>
constexpr void fill_tiles(GemmKernels& kernels) {
  kernels.tiles[ROWS] = tile<ROWS, Multiply>;
  if constexpr (ROWS > 1) fill_tiles<Multiply, ROWS - 1>(kernels);
}

}  // namespace simmim::SIMMIM_ISA
