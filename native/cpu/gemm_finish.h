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

/// Finishes `n` sums of row i from column j on.
SIMMIM_INLINE void finish_vec(const Gemm& g, const Side& c, Vec v, int64_t i, int64_t j, int n) {
  const int64_t at = i * g.ldc + j;
  if (g.bias) v += load_lanes(g.bias + j, n);
  if (g.pre.data) store_side(g.pre, at, v, n);
  if (g.gelu) v = gelu(v);
  if (g.gelu_of.data) v *= gelu_derivative(load_side(g.gelu_of, at, n));
  if (g.residual.data) v += load_side(g.residual, at, n);
  store_side(c, at, v, n);
}
/// Whole tiles with nothing but bias and residual, the common case: choices are made once, bias stays in registers.
template <class T>
static void finish_plain_tile(const Gemm& g, const float* sums, int64_t i0, int64_t m, int64_t j0) {
  Vec bias[kTileVecs] = {};
  if (g.bias)
    for (int v = 0; v < kTileVecs; v++) bias[v] = load(g.bias + j0 + v * kLanes);
  for (int64_t i = 0; i < m; i++, sums += kTileColumns)
    for (int v = 0; v < kTileVecs; v++) {
      const int64_t at = (i0 + i) * g.ldc + j0 + v * kLanes;
      Vec sum = load(sums + v * kLanes);
      if (g.bias) sum += bias[v];
      if (g.residual.data) sum += load_side(g.residual, at, kLanes);
      store(static_cast<T*>(g.c) + at, sum);
    }
}
static void finish_rows(const Gemm& g, const float* sums, int64_t ld, int64_t i0, int64_t m, int64_t j0, int64_t n) {
  if (n == kTileColumns && ld == kTileColumns && !g.pre.data && !g.gelu && !g.gelu_of.data)
    return g.result == DType::f32 ? finish_plain_tile<float>(g, sums, i0, m, j0) : finish_plain_tile<uint16_t>(g, sums, i0, m, j0);
  const Side c{g.c, g.result};
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j += kLanes) {
      const int lanes = static_cast<int>(n - j < kLanes ? n - j : kLanes);
      const float* p = sums + i * ld + j;
      finish_vec(g, c, load_lanes(p, lanes), i0 + i, j0 + j, lanes);
    }
}

template <class Multiply>
constexpr GemmKernels gemm_kernels() {
  GemmKernels kernels{};
  fill_tiles<Multiply>(kernels);
  kernels.finish = finish_rows;
  return kernels;
}

}  // namespace simmim::SIMMIM_ISA
