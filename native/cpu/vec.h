// Vec: one register of floats, as wide as the instruction-set level allows, on the compiler's own vector
// types (GCC and Clang). Included only by files compiled per level; everything lives in simmim::SIMMIM_ISA.
#pragma once
#include <cstdint>

#include "../core/tensor.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__x86_64__)
#include <emmintrin.h>  // a tenth of it to read
#endif

#ifndef SIMMIM_ISA
#error "vec.h belongs to files compiled per instruction-set level (see native/CMakeLists.txt)"
#endif

namespace simmim::SIMMIM_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IVec __attribute__((vector_size(kLanes * 4)));
// aligned(2): a pair of bf16 values is loaded as one lane, and may start at any of them
typedef float UnalignedVec __attribute__((vector_size(kLanes * 4), aligned(2), may_alias));
typedef int32_t UnalignedIVec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

SIMMIM_INLINE Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
SIMMIM_INLINE void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
SIMMIM_INLINE IVec load(const int32_t* p) { return *reinterpret_cast<const UnalignedIVec*>(p); }
SIMMIM_INLINE void store(int32_t* p, IVec v) { *reinterpret_cast<UnalignedIVec*>(p) = v; }
SIMMIM_INLINE Vec splat(float f) { return f - Vec{}; }
SIMMIM_INLINE IVec splat(int32_t i) { return i - IVec{}; }
SIMMIM_INLINE IVec bits(Vec v) { return reinterpret_cast<IVec>(v); }
SIMMIM_INLINE Vec from_bits(IVec v) { return reinterpret_cast<Vec>(v); }

/// The first n lanes from memory, the rest `fill`; never reads past p + n.
SIMMIM_INLINE Vec load_n(const float* p, int n, float fill = 0) {
#if defined(__AVX512F__)
  return _mm512_mask_loadu_ps(splat(fill), static_cast<__mmask16>((1u << n) - 1), p);
#elif defined(__AVX2__)
  const IVec some = IVec{0, 1, 2, 3, 4, 5, 6, 7} < n;
  return some ? _mm256_maskload_ps(p, reinterpret_cast<__m256i>(some)) : splat(fill);
#else
  Vec v = splat(fill);
  for (int i = 0; i < n; i++) v[i] = p[i];
  return v;
#endif
}
SIMMIM_INLINE void store_n(float* p, Vec v, int n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), v);
#else
  for (int i = 0; i < n; i++) p[i] = v[i];
#endif
}

/// p[i] for each lane's i.
SIMMIM_INLINE Vec gather(const float* p, IVec index) {
#if defined(__AVX512F__)
  return _mm512_i32gather_ps(reinterpret_cast<__m512i>(index), p, 4);
#elif defined(__AVX2__)
  return _mm256_i32gather_ps(p, reinterpret_cast<__m256i>(index), 4);
#else
  Vec v;
  for (int i = 0; i < kLanes; i++) v[i] = p[index[i]];
  return v;
#endif
}

/// a * b + c, fused where the level has FMA (baseline x86-64 has not: there it rounds twice).
SIMMIM_INLINE Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
SIMMIM_INLINE Vec select(IVec mask, Vec yes, Vec no) { return mask ? yes : no; }
/// a > b ? a : b and a < b ? a : b: the second one where either is NaN. The compiler does not find the instructions by itself.
#if defined(__AVX512F__)
SIMMIM_INLINE Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
SIMMIM_INLINE Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
#elif defined(__AVX2__)
SIMMIM_INLINE Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
SIMMIM_INLINE Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
#elif defined(__x86_64__)
SIMMIM_INLINE Vec max(Vec a, Vec b) { return _mm_max_ps(a, b); }
SIMMIM_INLINE Vec min(Vec a, Vec b) { return _mm_min_ps(a, b); }
#else
SIMMIM_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
SIMMIM_INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }
#endif
SIMMIM_INLINE Vec abs(Vec v) { return from_bits(bits(v) & 0x7fffffff); }

SIMMIM_INLINE Vec sqrt(Vec v) {
#if defined(__AVX512F__)
  return _mm512_sqrt_ps(v);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(v);
#elif defined(__x86_64__)
  return _mm_sqrt_ps(v);
#else
  Vec r;
  for (int i = 0; i < kLanes; i++) r[i] = __builtin_sqrtf(v[i]);
  return r;
#endif
}

/// Sum and maximum over lanes, always in the same tree order.
SIMMIM_INLINE float sum(Vec v) {
#if defined(__AVX512F__)
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
#elif defined(__AVX2__)
  const __m128 q = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
#elif defined(__x86_64__)
  const __m128 q = v;
#endif
#if defined(__x86_64__)
  const __m128 p = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(p, _mm_shuffle_ps(p, p, 1)));
#else
  return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}
SIMMIM_INLINE float max_lane(Vec v) {
  float m = v[0];
  for (int i = 1; i < kLanes; i++) m = v[i] > m ? v[i] : m;
  return m;
}

// bf16 is the upper half of a float; rounding is to nearest even, NaN stays NaN (one of its many).
SIMMIM_INLINE float bf16_to_float(uint16_t b) { return __builtin_bit_cast(float, static_cast<uint32_t>(b) << 16); }
SIMMIM_INLINE uint16_t float_to_bf16(float f) {
  const uint32_t u = __builtin_bit_cast(uint32_t, f);
  if ((u & 0x7fffffff) > 0x7f800000) return 0x7fc0;
  return static_cast<uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
SIMMIM_INLINE Vec load(const uint16_t* p) {
#if defined(__AVX512F__)
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
#elif defined(__AVX2__)
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
#elif defined(__x86_64__)
  return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  Vec v;
  for (int i = 0; i < kLanes; i++) v[i] = bf16_to_float(p[i]);
  return v;
#endif
}

#if defined(__AVX512F__)
typedef __m256i HalfVec;  // kLanes bf16
#elif defined(__x86_64__)
typedef __m128i HalfVec;
#endif
#if defined(__x86_64__)
SIMMIM_INLINE HalfVec to_bf16(Vec v) {
#if defined(__AVX512BF16__)  // the same rounding, but denormals become zero
  return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
#else
  const IVec u = bits(v), odd = (u >> 16) & 1;
  const IVec rounded = (v == v ? u + odd + 0x7fff : splat(int32_t{0x7fc00000})) >> 16;
#if defined(__AVX512F__)
  return _mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(rounded));
#elif defined(__AVX2__)
  const __m256i r = reinterpret_cast<__m256i>(rounded);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packs_epi32(r, r), 0x08));
#else
  const __m128i r = reinterpret_cast<__m128i>(rounded);
  return _mm_packs_epi32(r, r);
#endif
#endif
}
#endif
SIMMIM_INLINE void store(uint16_t* p, Vec v) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bf16(v));
#elif defined(__AVX2__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), to_bf16(v));
#elif defined(__x86_64__)
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), to_bf16(v));
#else
  for (int i = 0; i < kLanes; i++) p[i] = float_to_bf16(v[i]);
#endif
}

/// As load_n and store_n for floats: memory beyond p + n is not touched.
SIMMIM_INLINE Vec load_n(const uint16_t* p, int n, float fill = 0) {
#if defined(__AVX512F__)
  const __mmask16 some = static_cast<__mmask16>((1u << n) - 1);
  const __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, p)), 16);
  return _mm512_mask_mov_ps(splat(fill), some, _mm512_castsi512_ps(wide));
#else
  Vec v = splat(fill);
  for (int i = 0; i < n; i++) v[i] = bf16_to_float(p[i]);
  return v;
#endif
}
SIMMIM_INLINE void store_n(uint16_t* p, Vec v, int n) {
#if defined(__AVX512F__)
  _mm256_mask_storeu_epi16(p, static_cast<__mmask16>((1u << n) - 1), to_bf16(v));
#else
  for (int i = 0; i < n; i++) p[i] = float_to_bf16(v[i]);
#endif
}

}  // namespace simmim::SIMMIM_ISA
