// Packing: a block of A or B is copied into panels, k-row after k-row, so that the micro-kernel reads it
// as one stream. A unit is 32 bits: one float, or one pair of bf16 (k, k + 1) for the dot-product kernels.
#pragma once
#include "vec.h"

namespace simmim::SIMMIM_ISA {

enum class Source { f32, bf16_widened, bf16_pairs };

constexpr int64_t source_bytes(Source s) { return s == Source::f32 ? 4 : 2; }
constexpr int64_t source_unit(Source s) { return s == Source::bf16_pairs ? 2 : 1; }

/// Transposes kLanes registers in place: lane j of row i becomes lane i of row j.
SIMMIM_INLINE void transpose(Vec (&r)[kLanes]) {
#if defined(__AVX512F__)
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      const __m512d low = _mm512_castps_pd(t[i + half]), high = _mm512_castps_pd(t[i + half + 2]);
      r[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      r[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
  }
#elif defined(__AVX2__)
  __m256 t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      r[i + 2 * half] = _mm256_shuffle_ps(t[i + half], t[i + half + 2], 0x44);
      r[i + 2 * half + 1] = _mm256_shuffle_ps(t[i + half], t[i + half + 2], 0xee);
    }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    const __m256 low = r[i], high = r[i + 4];
    r[i] = _mm256_permute2f128_ps(low, high, 0x20);
    r[i + 4] = _mm256_permute2f128_ps(low, high, 0x31);
  }
#elif defined(__x86_64__)
  _MM_TRANSPOSE4_PS(r[0], r[1], r[2], r[3]);
#else
  for (int i = 0; i < kLanes; i++)
    for (int j = i + 1; j < kLanes; j++) {
      const float swap = r[i][j];
      r[i][j] = r[j][i];
      r[j][i] = swap;
    }
#endif
}

/// kLanes units from p on.
template <Source S>
SIMMIM_INLINE Vec load_units(const char* p) {
  if constexpr (S == Source::bf16_widened) return load(reinterpret_cast<const uint16_t*>(p));
  else return load(reinterpret_cast<const float*>(p));
}
/// One unit; the second half of a pair is zero when `whole` is false.
template <Source S>
SIMMIM_INLINE float load_unit(const char* p, bool whole = true) {
  if constexpr (S == Source::f32) return *reinterpret_cast<const float*>(p);
  const uint16_t* h = reinterpret_cast<const uint16_t*>(p);
  if constexpr (S == Source::bf16_widened) return bf16_to_float(h[0]);
  return __builtin_bit_cast(float, static_cast<uint32_t>(h[0]) | (whole ? static_cast<uint32_t>(h[1]) << 16 : 0));
}

/// Source rows run along the panel (element (k, i) at source[k * ld + i]): copies k rows of `width` elements,
/// zero-filled to `pitch`.
template <Source S>
static void pack_rows(const char* source, int64_t ld, int64_t k, int64_t width, int64_t pitch, float* d) {
  constexpr int64_t size = source_bytes(S);
  for (int64_t p = 0; p < k; p += source_unit(S), d += pitch) {
    const char* row = source + p * ld * size;
    int64_t i = 0;
    if constexpr (S == Source::bf16_pairs) {
      const uint16_t* low = reinterpret_cast<const uint16_t*>(row);
      const uint16_t* high = low + ld;
      uint32_t* out = reinterpret_cast<uint32_t*>(d);
      if (p + 1 < k) {
        for (; i < width; i++) out[i] = low[i] | static_cast<uint32_t>(high[i]) << 16;
      } else {
        for (; i < width; i++) out[i] = low[i];
      }
    } else {
      for (; i + kLanes <= width; i += kLanes) store(d + i, load_units<S>(row + i * size));
      for (; i < width; i++) d[i] = load_unit<S>(row + i * size);
    }
    for (; i < pitch; i++) d[i] = 0;
  }
}

/// Source rows run along k (element (k, i) at source[i * ld + k]): transposes `width` rows into a panel.
template <Source S>
static void pack_columns(const char* source, int64_t ld, int64_t k, int64_t width, int64_t pitch, float* d) {
  constexpr int64_t size = source_bytes(S), unit = source_unit(S), step = size * unit;
  const int64_t units = (k + unit - 1) / unit, whole = k / unit;
  int64_t p = 0;
  for (; p + kLanes <= whole; p += kLanes)
    for (int64_t i0 = 0; i0 < pitch; i0 += kLanes) {
      Vec r[kLanes];
      const char* at = source + i0 * ld * size + p * step;
      const int64_t rows = width - i0;
      if (rows >= kLanes) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; i++) r[i] = load_units<S>(at + i * ld * size);
      } else {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; i++) r[i] = i < rows ? load_units<S>(at + i * ld * size) : Vec{};
      }
      transpose(r);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; i++) store(d + (p + i) * pitch + i0, r[i]);
    }
  for (; p < units; p++)
    for (int64_t i = 0; i < pitch; i++) d[p * pitch + i] = i < width ? load_unit<S>(source + i * ld * size + p * step, p < whole) : 0;
}

}  // namespace simmim::SIMMIM_ISA
