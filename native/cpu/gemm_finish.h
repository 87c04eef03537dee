// Finishing of sums into C: bias, GELU, GELU', residual, rounding (the order is gemm.h's).
#pragma once
#include "gelu.h"
#include "gemm.h"
#include "gemm_kernel.h"
#include "reduce.h"

namespace simmim::SIMMIM_ISA {

SIMMIM_INLINE Vec load_side(const Side& side, int64_t at, int n) {
  if (side.dtype == DType::f32) return load_lanes(static_cast<const float*>(side.data) + at, n);
  return load_lanes(static_cast<const uint16_t*>(side.data) + at, n);
}
SIMMIM_INLINE void store_side(const Side& side, int64_t at, Vec v, int n) {
  if (side.dtype == DType::f32) store_lanes(static_cast<float*>(side.data) + at, v, n);
  else store_lanes(static_cast<uint16_t*>(side.data) + at, v, n);
}

/// Finishes N registers of sums, the r-th of which starts at at(r) in C and in what lies beside it, with bias from column(r) on; `lanes` of each.
template <int N, class At, class Column>
SIMMIM_INLINE void finish_registers(const Gemm& g, Vec (&v)[N], int lanes, const At& at, const Column& column) {
  if (g.bias)
    for (int r = 0; r < N; r++) v[r] += load_lanes(g.bias + column(r), lanes);
  if (g.pre.data)
    for (int r = 0; r < N; r++) store_side(g.pre, at(r), v[r], lanes);
  if (g.gelu) gelu(v);
  if (g.gelu_of.data) {
    Vec slope[N];
    for (int r = 0; r < N; r++) slope[r] = load_side(g.gelu_of, at(r), lanes);
    gelu_derivative(slope);
    for (int r = 0; r < N; r++) v[r] *= slope[r];
  }
  if (g.residual.data)
    for (int r = 0; r < N; r++) v[r] += load_side(g.residual, at(r), lanes);
  for (int r = 0; r < N; r++) store_side({g.c, g.result}, at(r), v[r], lanes);
}
/// ROWS rows of a whole tile.
template <int ROWS>
SIMMIM_INLINE void finish_tile_rows(const Gemm& g, const float* sums, int64_t i0, int64_t j0) {
  Vec v[ROWS * kTileVecs];
#pragma GCC unroll 4
  for (int r = 0; r < ROWS * kTileVecs; r++) v[r] = load(sums + r * kLanes);
  const auto column = [&](int r) { return j0 + r % kTileVecs * kLanes; };
  finish_registers(g, v, kLanes, [&](int r) { return (i0 + r / kTileVecs) * g.ldc + column(r); }, column);
}
static void finish_rows(const Gemm& g, const float* sums, int64_t ld, int64_t i0, int64_t m, int64_t j0, int64_t n) {
  if (n == kTileColumns && ld == kTileColumns) {
    constexpr int kRows = kGeluRegisters / kTileVecs;
    int64_t i = 0;
    for (; i + kRows <= m; i += kRows) finish_tile_rows<kRows>(g, sums + i * ld, i0 + i, j0);
    for (; i < m; i++) finish_tile_rows<1>(g, sums + i * ld, i0 + i, j0);
    return;
  }
  for (int64_t i = 0; i < m; i++)
    for_lanes(n, [&](int64_t j, int lanes) {
      Vec v[] = {load_lanes(sums + i * ld + j, lanes)};
      finish_registers(g, v, lanes, [&](int) { return (i0 + i) * g.ldc + j0 + j; }, [&](int) { return j0 + j; });
    });
}

template <class Multiply>
constexpr GemmKernels gemm_kernels() {
  GemmKernels kernels{};
  fill_tiles<Multiply>(kernels);
  kernels.finish = finish_rows;
  return kernels;
}

}  // namespace simmim::SIMMIM_ISA
