// The micro-kernel: an MR x NR tile of C stays in registers while a panel of A and a panel of B stream by.
#pragma once
#include "vec.h"

namespace simmim::SIMMIM_ISA {

// Tiles fill the register file: accumulators + one row of B + one broadcast of A.
#if defined(__AVX512F__)
constexpr int kTileRows = 14, kTileVecs = 2;
#else
constexpr int kTileRows = 6, kTileVecs = 2;
#endif
constexpr int kTileColumns = kTileVecs * kLanes;
/// Distance of two k-rows in a packed panel of A: whole registers, so that packing needs no masks.
constexpr int kPitchA = (kTileRows + kLanes - 1) / kLanes * kLanes;

/// C[rows, NR] = sum over k of a[k][row] * b[k][column], or added to C.
using TileFn = void (*)(int64_t k, const float* a, int64_t step_a, const float* b, int64_t step_b, float* c, int64_t ldc, bool add);

struct MultiplyFloats {
  static SIMMIM_INLINE Vec apply(Vec a, Vec b, Vec sum) { return a * b + sum; }
};

template <int ROWS, class Multiply>
static SIMMIM_INLINE void tile_body(int64_t k, const float* a, int64_t step_a, const float* b, int64_t step_b, float* c, int64_t ldc, bool add) {
  Vec sum[ROWS][kTileVecs];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
    for (int j = 0; j < kTileVecs; j++) sum[i][j] = Vec{};
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++) {
    __builtin_prefetch(c + i * ldc, 1);
    __builtin_prefetch(c + i * ldc + kTileColumns - 1, 1);
  }
  for (int64_t p = 0; p < k; p++, a += step_a, b += step_b) {
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
  if (add) {
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
      for (int j = 0; j < kTileVecs; j++) sum[i][j] += load(c + i * ldc + j * kLanes);
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
    for (int j = 0; j < kTileVecs; j++) store(c + i * ldc + j * kLanes, sum[i][j]);
}

template <int ROWS>
static void tile_f32(int64_t k, const float* a, int64_t step_a, const float* b, int64_t step_b, float* c, int64_t ldc, bool add) {
  tile_body<ROWS, MultiplyFloats>(k, a, step_a, b, step_b, c, ldc, add);
}

/// One kernel per row count: padding the last panel instead would cost 9 % at 128 rows.
struct TileTable {
  TileFn rows[kTileRows + 1];
};
template <int ROWS = kTileRows>
constexpr void fill_tiles_f32(TileTable& table) {
  table.rows[ROWS] = tile_f32<ROWS>;
  if constexpr (ROWS > 1) fill_tiles_f32<ROWS - 1>(table);
}

}  // namespace simmim::SIMMIM_ISA
