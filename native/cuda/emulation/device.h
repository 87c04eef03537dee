// What device code is written in, on the host: qualifiers, coordinates, barriers, warp operations, intrinsics. Functions
// are added here as kernels come to use them.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "block.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __shared__ static  // one block runs at a time

#define threadIdx (::simmim::emulation::at.thread)
#define blockIdx (::simmim::emulation::at.block)
#define blockDim (::simmim::emulation::at.threads)
#define gridDim (::simmim::emulation::at.blocks)

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline void __syncthreads() { simmim::emulation::block_barrier(false); }
inline int __syncthreads_or(int predicate) { return simmim::emulation::block_barrier(predicate) > 0; }
inline int __syncthreads_count(int predicate) { return simmim::emulation::block_barrier(predicate); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  const char nothing = 0;
  simmim::emulation::exchange(mask, &nothing, 1);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  const auto all = simmim::emulation::exchange(mask, &value, sizeof value);
  const int own = static_cast<int>(simmim::emulation::at.linear % 32);
  return simmim::emulation::lane_value<T>(all, static_cast<unsigned>(own / width * width + lane % width));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const auto all = simmim::emulation::exchange(mask, &value, sizeof value);
  const int own = static_cast<int>(simmim::emulation::at.linear % 32), from = own ^ bits;
  return from / width != own / width ? value : simmim::emulation::lane_value<T>(all, static_cast<unsigned>(from));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const auto all = simmim::emulation::exchange(mask, &value, sizeof value);
  const unsigned own = simmim::emulation::at.linear % 32, from = own + delta, w = static_cast<unsigned>(width);
  return from / w != own / w ? value : simmim::emulation::lane_value<T>(all, from);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const auto all = simmim::emulation::exchange(mask, &value, sizeof value);
  const unsigned own = simmim::emulation::at.linear % 32, w = static_cast<unsigned>(width);
  return own % w < delta ? value : simmim::emulation::lane_value<T>(all, own - delta);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const unsigned char yes = predicate != 0;
  const auto all = simmim::emulation::exchange(mask, &yes, 1);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < 32; lane++)
    if (mask & 1u << lane && all[lane][0] == 1) votes |= 1u << lane;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

template <class T>
T atomicAdd(T* to, T value) {
  const T old = *to;
  *to = old + value;
  return old;
}
template <class T>
T atomicMax(T* to, T value) {
  const T old = *to;
  *to = old > value ? old : value;
  return old;
}

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
using std::max;
using std::min;
