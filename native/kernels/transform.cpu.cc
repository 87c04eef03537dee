#include "transform.h"

#include "../cpu/thread_pool.h"
#include "elementary.h"

namespace simmim::SIMMIM_ISA {

namespace {

template <class T>
SIMMIM_INLINE T as_value(double v) {
  if constexpr (__is_same(T, float)) return static_cast<float>(v);
  else return static_cast<T>(to_int32(v));
}
SIMMIM_INLINE double clamp(double v, double high) { return v < 0 ? 0 : v > high ? high : v; }

double reflect(double v, double n) {  // dcba|abcd|dcba
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
double wrap(double v, double n) {  // abcd|abcd|abcd
  if (v < 0) return v + n * (__builtin_trunc(-v / (n - 1)) + 1);
  return v > n - 1 ? v - n * __builtin_trunc(v / (n - 1)) : v;
}

/// A coordinate mapped back into a picture of n positions. The last clamp is for what rounding would move outside.
SIMMIM_INLINE double map_back(double v, int64_t size, int32_t mode) {
  const double n = static_cast<double>(size);
  if (mode == Transform::constant) return v;
  if (mode == Transform::nearest_edge) return clamp(v, n - 1);
  if (n <= 1 && (v < 0 || v > n - 1)) return 0;
  return clamp(mode == Transform::reflect ? reflect(v, n) : wrap(v, n), n - 1);
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
};

template <class T>
SIMMIM_INLINE void write_nearest(const Picture<T>& picture, double y, double x, T fill, T* out) {
  const T* from = picture.at(round_half_up(y), round_half_up(x));
  for (int64_t c = 0; c < picture.channels; c++) out[c] = from ? from[c] : fill;
}

template <class T>
SIMMIM_INLINE void write_between(const Picture<T>& picture, double y, double x, float fill, T* out) {
  const double top = __builtin_floor(y), left = __builtin_floor(x), down = y - top, right = x - left, up = top + 1 - y, over = left + 1 - x;
  const T *a = picture.at(top, left), *b = picture.at(top, left + 1), *c = picture.at(top + 1, left), *d = picture.at(top + 1, left + 1);
  const auto value = [fill](const T* p, int64_t i) { return p ? static_cast<double>(p[i]) : static_cast<double>(fill); };
  for (int64_t i = 0; i < picture.channels; i++) out[i] = as_value<T>(up * (over * value(a, i) + right * value(b, i)) + down * (over * value(c, i) + right * value(d, i)));
}

template <class T>
void transform(const Transform& k) {
  const int64_t h = k.x.dim(1), w = k.x.dim(2), c = k.x.dim(3), p = k.y.dim(1), q = k.y.dim(2);
  const T fill = as_value<T>(k.fill);
  parallel_ranges(k.y.dim(0) * p, 4096 / (q * (c + 4) + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const int64_t b = r / p;
      const float* t = k.transforms.f32() + (k.transforms.dim(0) == 1 ? 0 : b * 8);
      const Picture<T> picture{k.x.as<T>() + b * h * w * c, h, w, c};
      const double v = static_cast<double>(r % p);
      T* y = k.y.as<T>() + r * q * c;
      for (int64_t i = 0; i < q; i++, y += c) {
        const double u = static_cast<double>(i), n = static_cast<double>(t[6]) * u + static_cast<double>(t[7]) * v + 1;
        if (n == 0) {  // infinitely far away
          for (int64_t j = 0; j < c; j++) y[j] = fill;
          continue;
        }
        const double x = map_back((static_cast<double>(t[0]) * u + static_cast<double>(t[1]) * v + static_cast<double>(t[2])) / n, w, k.op);
        const double z = map_back((static_cast<double>(t[3]) * u + static_cast<double>(t[4]) * v + static_cast<double>(t[5])) / n, h, k.op);
        if (k.nearest) write_nearest(picture, z, x, fill, y);
        else write_between(picture, z, x, k.fill, y);
      }
    }
  });
}

template <class T>
void rotate(const Rotate& k) {
  const int64_t h = k.x.dim(1), w = k.x.dim(2), c = k.x.dim(3);
  // Products of columns are kept in memory, those of a row are rounded: sums must not be fused with them (sampling.h).
  double *cosines = static_cast<double*>(k.workspace), *sines = cosines + w;
  for (int64_t i = 0; i < w; i++) cosines[i] = (static_cast<double>(i) - k.center_x) * k.cosine, sines[i] = (static_cast<double>(i) - k.center_x) * k.sine;
  parallel_ranges(k.x.dim(0) * h, 4096 / (w * (c + 2) + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const Picture<T> picture{k.x.as<T>() + r / h * h * w * c, h, w, c};
      const double from_center = static_cast<double>(r % h) - k.center_y, sine = rounded(from_center * k.sine), cosine = rounded(from_center * k.cosine);
      T* y = k.y.as<T>() + r * w * c;
      for (int64_t i = 0; i < w; i++, y += c) {
        const T* from = picture.at(round_half_up(sines[i] + cosine + k.center_y), round_half_up(cosines[i] - sine + k.center_x));
        for (int64_t j = 0; j < c; j++) y[j] = from ? from[j] : as_value<T>(k.fill.f32()[j]);
      }
    }
  });
}

}  // namespace

void run(const Transform& k) {
  switch (k.x.dtype) {
    case DType::f32: return transform<float>(k);
    case DType::i32: return transform<int32_t>(k);
    default: return transform<uint8_t>(k);
  }
}

void run(const Rotate& k) {
  switch (k.x.dtype) {
    case DType::f32: return rotate<float>(k);
    case DType::i32: return rotate<int32_t>(k);
    default: return rotate<uint8_t>(k);
  }
}

}  // namespace simmim::SIMMIM_ISA
