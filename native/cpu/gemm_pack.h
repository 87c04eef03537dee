// Packing: a block of A or B is copied into panels, k-row after k-row, so that the micro-kernel reads it
// as one stream. A unit is 32 bits: one float, or one pair of bf16 (k, k + 1) for the dot-product kernels.
#pragma once
#include "vec.h"

namespace simmim::SIMMIM_ISA {

constexpr int64_t kPackedTogether = 8, kPackAhead = 6;  // panels, k-rows

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
/// r[j] = column j of a block of kLanes x kLanes units: lane i comes from the row at row_at(i). Only ROWS rows are read, or as many as
/// `rows` says where ROWS is 0; the other lanes are 0.
template <Source S, int ROWS, class RowAt>
SIMMIM_INLINE void load_transposed_rows(const RowAt& row_at, int rows, Vec (&r)[kLanes]) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  if constexpr (S == Source::f32 && ROWS > 0) {  // halves change places on the way in, which costs nothing: permuting registers does
    const auto half = [&](int row, int column) { return _mm_loadu_ps(reinterpret_cast<const float*>(row_at(row)) + column); };
#pragma GCC unroll 2
    for (int column = 0; column < 8; column += 4) {
      __m256 pair[4] = {};  // rows i and i + 4
#pragma GCC unroll 4
      for (int i = 0; i < 4 && i < ROWS; i++) {
        pair[i] = _mm256_zextps128_ps256(half(i, column));
        if (i + 4 < ROWS) pair[i] = _mm256_insertf128_ps(pair[i], half(i + 4, column), 1);
      }
      const __m256 low = _mm256_unpacklo_ps(pair[0], pair[1]), low2 = _mm256_unpacklo_ps(pair[2], pair[3]);
      const __m256 high = _mm256_unpackhi_ps(pair[0], pair[1]), high2 = _mm256_unpackhi_ps(pair[2], pair[3]);
      r[column] = _mm256_shuffle_ps(low, low2, 0x44);
      r[column + 1] = _mm256_shuffle_ps(low, low2, 0xee);
      r[column + 2] = _mm256_shuffle_ps(high, high2, 0x44);
      r[column + 3] = _mm256_shuffle_ps(high, high2, 0xee);
    }
    return;
  }
#endif
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i++) r[i] = i < (ROWS > 0 ? ROWS : rows) ? load_units<S>(row_at(i)) : Vec{};
  transpose(r);
}
/// The same for rows that are `pitch` bytes apart from p on.
template <Source S, int ROWS>
SIMMIM_INLINE void load_transposed(const char* p, int64_t pitch, int rows, Vec (&r)[kLanes]) {
  load_transposed_rows<S, ROWS>([&](int i) { return p + i * pitch; }, rows, r);
}
/// One unit; the second half of a pair is zero when `whole` is false.
template <Source S>
SIMMIM_INLINE float load_unit(const char* p, bool whole = true) {
  if constexpr (S == Source::f32) return *reinterpret_cast<const float*>(p);
  const uint16_t* h = reinterpret_cast<const uint16_t*>(p);
  if constexpr (S == Source::bf16_widened) return bf16_to_float(h[0]);
  return __builtin_bit_cast(float, static_cast<uint32_t>(h[0]) | (whole ? static_cast<uint32_t>(h[1]) << 16 : 0));
}

/// kLanes (or n) units of the k-row at p, and of the next k-row when units are pairs and there is one.
template <Source S>
SIMMIM_INLINE Vec load_rows_n(const char* p, int64_t ld, bool pair, int n) {
  Vec v{};
  for (int i = 0; i < n; i++) {
    if constexpr (S == Source::bf16_pairs) {
      const uint16_t* low = reinterpret_cast<const uint16_t*>(p) + i;
      v[i] = __builtin_bit_cast(float, low[0] | static_cast<uint32_t>(pair ? low[ld] : 0) << 16);
    } else {
      v[i] = load_unit<S>(p + i * source_bytes(S));
    }
  }
  return v;
}
template <Source S>
SIMMIM_INLINE Vec load_rows(const char* p, int64_t ld, bool pair) {
  if constexpr (S != Source::bf16_pairs) return load_units<S>(p);
#if defined(__AVX512F__)
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  if (!pair) return _mm512_castsi512_ps(low);
  const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 2 * ld)));
  return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
#else
  return load_rows_n<S>(p, ld, pair, kLanes);
#endif
}

/// Source rows run along the panels (element (k, i) at source[k * ld + i]): deals k rows of `width` elements out to panels of
/// PANEL elements each, whose k-rows are PITCH and whose starts are `stride` floats apart. Some panels advance together: the
/// source is contiguous along a row only, but too many of them would find no room in the caches. What lies between the
/// last element and PITCH is never used and is left arbitrary.
template <Source S, int PANEL, int PITCH>
static void pack_rows(const char* source, int64_t ld, int64_t k, int64_t width, int64_t stride, float* d) {
  constexpr int64_t size = source_bytes(S), group = kPackedTogether * PANEL;
  for (int64_t g0 = 0; g0 < width; g0 += group, d += kPackedTogether * stride) {
    const int64_t end = width - g0 < group ? width : g0 + group;
    float* to = d;
    for (int64_t p = 0; p < k; p += source_unit(S), to += PITCH) {
      const char* row = source + p * ld * size;
      // A register may be read past the row's end where that is still inside the block: not from its last row.
      const bool inside = ld >= kLanes && p + source_unit(S) < k;
      for (int64_t line = g0 * size; line < end * size; line += 64) __builtin_prefetch(row + kPackAhead * source_unit(S) * ld * size + line);
      float* out = to;
      for (int64_t i0 = g0; i0 < end; i0 += PANEL, out += stride)
#pragma GCC unroll 2
        for (int64_t i = 0; i < PANEL; i += kLanes) {
          const int64_t rest = width - i0 - i;
          if (rest <= 0) break;
          const char* at = row + (i0 + i) * size;
          store(out + i, inside || rest >= kLanes ? load_rows<S>(at, ld, p + 1 < k) : load_rows_n<S>(at, ld, p + 1 < k, static_cast<int>(rest)));
        }
    }
  }
}

/// Source rows run along k (element (k, i) at source[i * ld + k]): transposes `width` rows into a panel with room for ROWS.
template <Source S, int ROWS, int PITCH>
static void pack_columns(const char* source, int64_t ld, int64_t k, int64_t width, float* d) {
  constexpr int64_t size = source_bytes(S), unit = source_unit(S), step = size * unit;
  const int64_t units = (k + unit - 1) / unit, whole = k / unit;
  const auto pack = [&]<int N>(int64_t p, int64_t i0) {
    Vec r[kLanes];
    load_transposed<S, N>(source + i0 * ld * size + p * step, ld * size, static_cast<int>(width - i0), r);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) store(d + (p + i) * PITCH + i0, r[i]);
  };
  int64_t p = 0;
  for (; p + kLanes <= whole; p += kLanes)
    for (int64_t i0 = 0; i0 < ROWS; i0 += kLanes) {
      if (i0 + kLanes <= width) pack.template operator()<kLanes>(p, i0);
      else if (width == ROWS) pack.template operator()<ROWS % kLanes>(p, i0);
      else pack.template operator()<0>(p, i0);
    }
  for (; p < units; p++)
    for (int64_t i = 0; i < PITCH; i++) d[p * PITCH + i] = i < width ? load_unit<S>(source + i * ld * size + p * step, p < whole) : 0;
}

/// sums[row] (+)= the row's units over k, from panels of `rows` rows; four chains, because an addition takes four cycles.
template <Source S>
static void sum_panels(const float* packed, int64_t units, int64_t rows, int64_t pitch, int64_t stride, int64_t m, float* sums, bool add) {
  for (int64_t i0 = 0; i0 < m; i0 += rows, packed += stride)
    for (int64_t i = 0; i < rows && i0 + i < m; i += kLanes) {
      Vec chain[4] = {};
      const auto unit = [&](int64_t p) {
        const Vec v = load(packed + p * pitch + i);
        if constexpr (S == Source::bf16_pairs) return from_bits(bits(v) << 16) + from_bits(bits(v) & static_cast<int32_t>(0xffff0000));
        else return v;
      };
      int64_t p = 0;
      for (; p + 4 <= units; p += 4)
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++) chain[c] += unit(p + c);
#pragma GCC unroll 3
      for (int c = 0; c < 3; c++)
        if (p + c < units) chain[c] += unit(p + c);
      Vec sum = (chain[0] + chain[1]) + (chain[2] + chain[3]);
      const int64_t rest = (rows < m - i0 ? rows : m - i0) - i;
      const int n = static_cast<int>(rest < kLanes ? rest : kLanes);
      if (add) sum += load_n(sums + i0 + i, n);
      store_n(sums + i0 + i, sum, n);
    }
}

}  // namespace simmim::SIMMIM_ISA
