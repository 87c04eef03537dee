// Tensors of f32 or bf16 that a kernel reads and writes as floats, one by one or eight at a time; the dtype is the same for a
// whole launch, so asking for it costs a kernel that waits for memory nothing.
#pragma once
#include "../core/gemm.h"
#include "vec.cuh"

namespace simmim::cuda {

constexpr int kMany = 8;  // values that a thread takes at a time where addresses allow it
using Many = Pack<kMany>;

inline Side side_of(const Tensor& t) { return {t.data, t.dtype}; }

SIMMIM_DEVICE float load_one(const Side& side, int64_t at) {
  return side.dtype == DType::f32 ? static_cast<const float*>(side.data)[at] : bf16_to_float(static_cast<const uint16_t*>(side.data)[at]);
}
SIMMIM_DEVICE void store_one(const Side& side, int64_t at, float v) {
  if (side.dtype == DType::f32) static_cast<float*>(side.data)[at] = v;
  else static_cast<uint16_t*>(side.data)[at] = float_to_bf16(v);
}
SIMMIM_DEVICE Many load_many(const float* p) {
  const Pack<4> v = load_pack(p), w = load_pack(p + 4);
  return {{v[0], v[1], v[2], v[3], w[0], w[1], w[2], w[3]}};
}
SIMMIM_DEVICE Many load_many(const Side& side, int64_t at) {
  if (side.dtype == DType::bf16) return load_pack(static_cast<const uint16_t*>(side.data) + at);
  return load_many(static_cast<const float*>(side.data) + at);
}
SIMMIM_DEVICE void store_many(float* p, const Many& v) {
  store_pack(p, {{v[0], v[1], v[2], v[3]}});
  store_pack(p + 4, {{v[4], v[5], v[6], v[7]}});
}
SIMMIM_DEVICE void store_many(const Side& side, int64_t at, const Many& v) {
  if (side.dtype == DType::bf16) return store_pack(static_cast<uint16_t*>(side.data) + at, v);
  store_many(static_cast<float*>(side.data) + at, v);
}

/// Whether rows of n values can be taken eight at a time in every one of the tensors.
template <class... P>
bool many_allowed(int64_t n, const P*... p) {
  return n % kMany == 0 && packs_allowed(p...);
}

/// A row of n values shared by the lanes of a warp: one(i) for each, or many(i) for each run of eight.
template <class One, class Several>
SIMMIM_DEVICE void each_of_row(int64_t n, bool several, const One& one, const Several& many) {
  const int lane = static_cast<int>(threadIdx.x % kWarpSize);
  if (several)
    for (int64_t i = lane * kMany; i < n; i += kWarpSize * kMany) many(i);
  else
    for (int64_t i = lane; i < n; i += kWarpSize) one(i);
}

}  // namespace simmim::cuda
