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

/// Whether op(A) = A in f32 is multiplied where it lies: its rows are long runs, and copying them costs more than reading each
/// by an address of its own. With AVX-512's taller tiles that is not measured.
#if defined(__AVX512F__)
constexpr bool kReadsInPlace = false;
#else
constexpr bool kReadsInPlace = true;
#endif

/// C[ROWS, NR] = sum over k of a[k][row] * b[k][column], plus what `to` names, for `count` panels of B and the columns of C that
/// belong to them. Panels as gemm_pack.h makes them, k in units; IN_PLACE: element (k, row) at a[row * lda + k].
template <int ROWS, class Multiply, bool IN_PLACE>
static void tiles(int64_t k, const float* a, int64_t lda, const float* b, int64_t panel_b, int64_t count, const TileResult& to) {
  const auto prefetch = [](const float* matrix, int64_t ld) {
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
      __builtin_prefetch(matrix + i * ld, 1);
      __builtin_prefetch(matrix + i * ld + kTileColumns - 1, 1);
    }
  };
  for (int64_t column = 0; column < count * kTileColumns; column += kTileColumns, b += panel_b) {
    Vec sum[ROWS][kTileVecs];
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
      for (int j = 0; j < kTileVecs; j++) sum[i][j] = Vec{};
    if (to.earlier) prefetch(to.earlier + column, to.ld_earlier);  // what is touched first afterwards
    else prefetch(to.c + column, to.ldc);
    if (to.residual) prefetch(to.residual + column, to.ldc);
    for (int64_t p = 0; p < k; p++) {
      Vec row[kTileVecs];
#pragma GCC unroll 4
      for (int j = 0; j < kTileVecs; j++) row[j] = load(b + p * kTileColumns + j * kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < ROWS; i++) {
        const Vec x = splat(IN_PLACE ? a[i * lda + p] : a[p * kPitchA + i]);
#pragma GCC unroll 4
        for (int j = 0; j < kTileVecs; j++) sum[i][j] = Multiply::apply(x, row[j], sum[i][j]);
      }
    }
    const auto add = [&](const float* matrix, int64_t ld) {
#pragma GCC unroll 16
      for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int j = 0; j < kTileVecs; j++) sum[i][j] += load(matrix + i * ld + j * kLanes);
    };
    if (to.earlier) add(to.earlier + column, to.ld_earlier);
    if (to.bias) add(to.bias + column, 0);
    if (to.residual) add(to.residual + column, to.ldc);
    float* const c = to.c + column;
    const int64_t ldc = to.ldc;  // once, not after every store
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
      for (int j = 0; j < kTileVecs; j++) store(c + i * ldc + j * kLanes, sum[i][j]);
  }
}

template <class Multiply, int ROWS = kTileRows>
constexpr void fill_tiles(GemmKernels& kernels) {
  kernels.tiles[ROWS] = tiles<ROWS, Multiply, false>;
  if constexpr (kReadsInPlace) kernels.tiles_in_place[ROWS] = tiles<ROWS, Multiply, true>;
  if constexpr (ROWS > 1) fill_tiles<Multiply, ROWS - 1>(kernels);
}

}  // namespace simmim::SIMMIM_ISA
