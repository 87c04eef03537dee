// Interpolated lines of pictures, for the files compiled per level: two source lines are blended to one in scratch memory, from
// which the samples along the width are taken.
#pragma once
#include "../cpu/reduce.h"
#include "sampling.h"

namespace simmim::SIMMIM_ISA {

/// Consecutive registers of a line of floats or integers, as floats.
SIMMIM_INLINE Vec load_float(const float* p, int lanes) { return load_lanes(p, lanes); }
template <class T>
SIMMIM_INLINE Vec load_float(const T* p, int lanes) {
  Vec v{};
  for (int i = 0; i < lanes; i++) v[i] = static_cast<float>(p[i]);
  return v;
}

/// Samples along one line of [width, C]: for few channels an entry per result, so that registers are filled across pixels.
struct SampleTable {
  int64_t count, channels;
  int32_t *lo, *hi;
  float* fraction;

  static SIMMIM_INLINE bool is_flat(int64_t channels) { return channels < kLanes; }
  /// Entries, 12 bytes each.
  static SIMMIM_INLINE int64_t entries(int64_t count, int64_t channels) { return is_flat(channels) ? count * channels : count; }
  SIMMIM_INLINE SampleTable(int64_t n, int64_t c, void* memory) : count(n), channels(c) {
    lo = static_cast<int32_t*>(memory);
    hi = lo + entries(n, c);
    fraction = reinterpret_cast<float*>(hi + entries(n, c));
  }
  SIMMIM_INLINE void set(int64_t i, Tap tap) {
    if (!is_flat(channels)) {
      lo[i] = tap.lo, hi[i] = tap.hi, fraction[i] = tap.fraction;
      return;
    }
    for (int64_t j = 0; j < channels; j++) {
      const int64_t at = i * channels + j;
      lo[at] = tap.lo < 0 ? -1 : static_cast<int32_t>(tap.lo * channels + j);
      hi[at] = tap.lo < 0 ? 0 : static_cast<int32_t>(tap.hi * channels + j);
      fraction[at] = tap.fraction;
    }
  }
};

/// Between two neighbours; the lower one itself for nearest neighbours, where an infinity must stay one.
SIMMIM_INLINE Vec between(Vec low, Vec high, Vec fraction, bool nearest) { return nearest ? low : low + (high - low) * fraction; }

/// line = between a and b, elements [begin, end).
template <class T>
SIMMIM_INLINE void blend_lines(const T* a, const T* b, float fraction, bool nearest, int64_t begin, int64_t end, float* line) {
  for_lanes(end - begin, [&](int64_t i, int lanes) { store_lanes(line + begin + i, between(load_float(a + begin + i, lanes), load_float(b + begin + i, lanes), splat(fraction), nearest), lanes); });
}

/// y [count, C] = the samples of line [width, C]; `fill` where a tap lies outside.
SIMMIM_INLINE void sample_line(const float* line, const SampleTable& table, bool nearest, float fill, float* y) {
  const int64_t c = table.channels;
  if (SampleTable::is_flat(c)) {
    for_lanes(table.count * c, [&](int64_t i, int lanes) {
      IVec lo{}, hi{};
      Vec fraction{};
      if (lanes == kLanes) {
        lo = load(table.lo + i), hi = load(table.hi + i), fraction = load(table.fraction + i);
      } else {
        for (int k = 0; k < lanes; k++) lo[k] = table.lo[i + k], hi[k] = table.hi[i + k], fraction[k] = table.fraction[i + k];
      }
      const IVec outside = lo < 0;
      const Vec low = gather(line, outside ? IVec{} : lo), high = gather(line, hi);
      store_lanes(y + i, select(outside, splat(fill), between(low, high, fraction, nearest)), lanes);
    });
    return;
  }
  for (int64_t i = 0; i < table.count; i++)
    for_lanes(c, [&](int64_t j, int lanes) {
      if (table.lo[i] < 0) return store_lanes(y + i * c + j, splat(fill), lanes);
      const Vec low = load_lanes(line + table.lo[i] * c + j, lanes), high = load_lanes(line + table.hi[i] * c + j, lanes);
      store_lanes(y + i * c + j, between(low, high, splat(table.fraction[i]), nearest), lanes);
    });
}

}  // namespace simmim::SIMMIM_ISA
