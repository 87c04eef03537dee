// Where resized, cropped and turned pictures read their source. Coordinates decide which pixel is read, so they are computed
// in doubles and rounded as tfjs rounds them.
#pragma once
#include "../core/spec.h"
#include "rounded_product.h"

namespace simmim {

/// A sample between two neighbours: v[lo] + (v[hi] - v[lo]) fraction. Outside the source: lo = -1.
struct Tap {
  int32_t lo, hi;
  float fraction;
};

/// To the nearest integer, halves upwards.
SIMMIM_INLINE double round_half_up(double v) {
  const double below = __builtin_floor(v);
  return v - below >= 0.5 ? below + 1 : below;
}

/// The neighbours of a coordinate inside [0, size - 1].
SIMMIM_INLINE Tap tap_at(double at, int64_t size) {
  double lo = __builtin_floor(at), hi = __builtin_ceil(at);
  const double last = static_cast<double>(size - 1);
  lo = lo < 0 ? 0 : lo > last ? last : lo;
  hi = hi < 0 ? 0 : hi > last ? last : hi;
  return {static_cast<int32_t>(lo), static_cast<int32_t>(hi), static_cast<float>(at - lo)};
}

/// One axis of a resize from `in` to `out` positions.
struct ResizeAxis {
  int64_t in;
  double ratio;
  bool align_corners, half_pixel_centers, nearest;
  SIMMIM_INLINE ResizeAxis(int64_t from, int64_t to, bool corners, bool centers, bool round) : in(from), align_corners(corners), half_pixel_centers(centers), nearest(round) {
    const int64_t less = corners && to > 1 ? 1 : 0;
    ratio = static_cast<double>(from - less) / static_cast<double>(to - less);
  }
  SIMMIM_INLINE Tap operator[](int64_t i) const {
    const double scaled = rounded_product(ratio, half_pixel_centers ? static_cast<double>(i) + 0.5 : static_cast<double>(i));
    if (!nearest) return tap_at(half_pixel_centers ? scaled - 0.5 : scaled, in);
    const double at = align_corners ? round_half_up(scaled) : __builtin_floor(scaled), last = static_cast<double>(in - 1);
    const int32_t n = static_cast<int32_t>(at > last ? last : at);
    return {n, n, 0};
  }
};

}  // namespace simmim
