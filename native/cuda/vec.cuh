// Values in memory as floats in registers: f32 and bf16, one by one or 16 bytes at a time.
#pragma once
#include "device.cuh"

namespace simmim::cuda {

SIMMIM_INLINE float bf16_to_float(uint16_t bits) { return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16); }
/// To nearest even; NaN stays NaN.
SIMMIM_INLINE uint16_t float_to_bf16(float f) {
#if defined(__CUDA_ARCH__)
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(f));
  return bits;
#else
  const uint32_t u = __builtin_bit_cast(uint32_t, f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(u >> 16 | 64);
  return static_cast<uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16);
#endif
}

/// For one access of sizeof(T) bytes: the address must be a multiple of that, which the emulation checks.
template <class T, class P>
SIMMIM_DEVICE T* as_vector(P* p) {
#if defined(SIMMIM_CUDA_EMULATED)
  emulation::require_aligned(p, sizeof(T));
#endif
  return reinterpret_cast<T*>(p);
}

SIMMIM_DEVICE float load(const float* p) { return *p; }
SIMMIM_DEVICE float load(const uint16_t* p) { return bf16_to_float(*p); }
SIMMIM_DEVICE void store(float* p, float v) { *p = v; }
SIMMIM_DEVICE void store(uint16_t* p, float v) { *p = float_to_bf16(v); }

/// N neighbouring values.
template <int N>
struct Pack {
  float v[N];
  SIMMIM_DEVICE float& operator[](int i) { return v[i]; }
  SIMMIM_DEVICE float operator[](int i) const { return v[i]; }
};

/// Values of T that one 16-byte access holds.
template <class T>
constexpr int kPack = 16 / static_cast<int>(sizeof(T));

/// 16-byte accesses.
SIMMIM_DEVICE Pack<4> load_pack(const float* p) {
  const float4 q = *as_vector<const float4>(p);
  return {{q.x, q.y, q.z, q.w}};
}
SIMMIM_DEVICE void store_pack(float* p, const Pack<4>& v) { *as_vector<float4>(p) = make_float4(v[0], v[1], v[2], v[3]); }
SIMMIM_DEVICE float low_bf16(unsigned pair) { return __uint_as_float(pair << 16); }
SIMMIM_DEVICE float high_bf16(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }
SIMMIM_DEVICE unsigned bf16_pair(float low, float high) {
#if defined(__CUDA_ARCH__)
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return float_to_bf16(low) | static_cast<unsigned>(float_to_bf16(high)) << 16;
#endif
}
SIMMIM_DEVICE Pack<8> load_pack(const uint16_t* p) {
  const uint4 q = *as_vector<const uint4>(p);
  return {{low_bf16(q.x), high_bf16(q.x), low_bf16(q.y), high_bf16(q.y), low_bf16(q.z), high_bf16(q.z), low_bf16(q.w), high_bf16(q.w)}};
}
SIMMIM_DEVICE void store_pack(uint16_t* p, const Pack<8>& v) {
  *as_vector<uint4>(p) = make_uint4(bf16_pair(v[0], v[1]), bf16_pair(v[2], v[3]), bf16_pair(v[4], v[5]), bf16_pair(v[6], v[7]));
}

/// Whether 16-byte accesses are allowed at each of the addresses.
template <class... P>
bool packs_allowed(const P*... p) {
  return ((reinterpret_cast<uintptr_t>(p) % 16 == 0) && ...);
}

}  // namespace simmim::cuda
