// Pixels of a picture at coordinates that may lie outside, for turned and warped pictures on every device: coordinates mapped
// back, the pixel at a whole coordinate, values between pixels.
#pragma once
#include "sampling.h"
#include "scalar_ops.h"

namespace simmim {

/// What is read outside: a given value, or the picture mirrored, repeated, or its edge.
enum class FillMode : int32_t { constant, reflect, wrap, nearest };
constexpr int32_t kFillModes = 4;

/// A double as a pixel of type T; integers are truncated.
template <class T>
SIMMIM_INLINE T pixel_value(double v) {
  if constexpr (__is_same(T, float)) return static_cast<float>(v);
  else return static_cast<T>(to_int32(v));
}

SIMMIM_INLINE double reflected(double v, double n) {  // dcba|abcd|dcba
  const double twice = 2 * n;
  if (v < 0) {
    if (v < twice) v = twice * __builtin_trunc(-v / twice) + v;
    v = v < -n ? v + twice : -v - 1;
  } else if (v > n - 1) {
    v -= twice * __builtin_trunc(v / twice);
    if (v >= n) v = twice - v - 1;
  }
  return v;
}
SIMMIM_INLINE double wrapped(double v, double n) {  // abcd|abcd|abcd
  if (v < 0) return v + n * (__builtin_trunc(-v / (n - 1)) + 1);
  return v > n - 1 ? v - n * __builtin_trunc(v / (n - 1)) : v;
}

/// A coordinate mapped back into a picture of `size` positions. The last limit is for what rounding would move outside.
SIMMIM_INLINE double mapped_back(double v, int64_t size, FillMode mode) {
  if (mode == FillMode::constant) return v;
  const double last = static_cast<double>(size - 1);
  if (mode != FillMode::nearest) {
    if (size <= 1 && (v < 0 || v > last)) return 0;
    v = mode == FillMode::reflect ? reflected(v, last + 1) : wrapped(v, last + 1);
  }
  return v < 0 ? 0 : v > last ? last : v;
}

template <class T>
struct Picture {
  const T* data;
  int64_t height, width, channels;
  /// The pixel at whole coordinates, null outside.
  SIMMIM_INLINE const T* at(double y, double x) const {
    if (!(y >= 0 && y < static_cast<double>(height) && x >= 0 && x < static_cast<double>(width))) return nullptr;
    return data + (static_cast<int64_t>(y) * width + static_cast<int64_t>(x)) * channels;
  }
  SIMMIM_INLINE const T* nearest(double y, double x) const { return at(round_half_up(y), round_half_up(x)); }
};

/// The four pixels round a coordinate, null outside, and how near they are.
template <class T>
struct PixelsRound {
  const T *top_left, *top_right, *bottom_left, *bottom_right;
  double up, down, over, right;  // weights of top, bottom, left and right
  SIMMIM_INLINE PixelsRound(const Picture<T>& picture, double y, double x) {
    const double top = __builtin_floor(y), left = __builtin_floor(x);
    down = y - top, right = x - left, up = top + 1 - y, over = left + 1 - x;
    top_left = picture.at(top, left), top_right = picture.at(top, left + 1);
    bottom_left = picture.at(top + 1, left), bottom_right = picture.at(top + 1, left + 1);
  }
  /// Channel c between them, `fill` for those outside.
  SIMMIM_INLINE T operator()(int64_t c, float fill) const {
    const double top = between(over, value(top_left, c, fill), right, value(top_right, c, fill));
    return pixel_value<T>(between(up, top, down, between(over, value(bottom_left, c, fill), right, value(bottom_right, c, fill))));
  }

 private:
  /// Integers are truncated, so that the last bit decides where neighbours are equal.
  static SIMMIM_INLINE double between(double near, double a, double far, double b) {
    if constexpr (__is_same(T, float)) return near * a + far * b;
    else return rounded_product(near, a) + rounded_product(far, b);
  }
  static SIMMIM_INLINE double value(const T* p, int64_t c, float fill) { return p ? static_cast<double>(p[c]) : static_cast<double>(fill); }
};

/// Where a projective transform reads for the result at row v, column u; false where that is infinitely far away.
struct Projection {
  double y, x;
  SIMMIM_INLINE bool find(const float* t, double v, double u, int64_t height, int64_t width, FillMode mode) {
    const double n = static_cast<double>(t[6]) * u + static_cast<double>(t[7]) * v + 1;
    x = y = 0;
    if (n == 0) return false;
    x = mapped_back((static_cast<double>(t[0]) * u + static_cast<double>(t[1]) * v + static_cast<double>(t[2])) / n, width, mode);
    y = mapped_back((static_cast<double>(t[3]) * u + static_cast<double>(t[4]) * v + static_cast<double>(t[5])) / n, height, mode);
    return true;
  }
};

}  // namespace simmim
