#include "transform.h"

#include "../cpu/thread_pool.h"

namespace simmim::SIMMIM_ISA {

namespace {

template <class T>
void transform(const Transform& k) {
  const int64_t h = k.x.dim(1), w = k.x.dim(2), c = k.x.dim(3), p = k.y.dim(1), q = k.y.dim(2);
  const T outside = pixel_value<T>(k.fill);
  const FillMode mode = static_cast<FillMode>(k.op);
  parallel_ranges(k.y.dim(0) * p, 4096 / (q * (c + 4) + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const int64_t b = r / p;
      const float* matrix = k.transforms.f32() + (k.transforms.dim(0) == 1 ? 0 : b * 8);
      const Picture<T> picture{k.x.as<T>() + b * h * w * c, h, w, c};
      T* y = k.y.as<T>() + r * q * c;
      for (int64_t i = 0; i < q; i++, y += c) {
        Projection source;
        const bool is_there = source.find(matrix, static_cast<double>(r % p), static_cast<double>(i), h, w, mode);
        if (is_there && !k.nearest) {
          const PixelsRound<T> pixels(picture, source.y, source.x);
          for (int64_t j = 0; j < c; j++) y[j] = pixels(j, k.fill);
          continue;
        }
        const T* from = is_there ? picture.nearest(source.y, source.x) : nullptr;
        for (int64_t j = 0; j < c; j++) y[j] = from ? from[j] : outside;
      }
    }
  });
}

template <class T>
void rotate(const Rotate& k) {
  const int64_t h = k.x.dim(1), w = k.x.dim(2), c = k.x.dim(3);
  // Products of columns are kept in memory, those of a row are rounded: sums must not be fused with them.
  double *cosines = static_cast<double*>(k.workspace), *sines = cosines + w;
  for (int64_t i = 0; i < w; i++) cosines[i] = (static_cast<double>(i) - k.center_x) * k.cosine, sines[i] = (static_cast<double>(i) - k.center_x) * k.sine;
  parallel_ranges(k.x.dim(0) * h, 4096 / (w * (c + 2) + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const Picture<T> picture{k.x.as<T>() + r / h * h * w * c, h, w, c};
      const double from_center = static_cast<double>(r % h) - k.center_y, sine = rounded_product(from_center, k.sine), cosine = rounded_product(from_center, k.cosine);
      T* y = k.y.as<T>() + r * w * c;
      for (int64_t i = 0; i < w; i++, y += c) {
        const T* from = picture.nearest(sines[i] + cosine + k.center_y, cosines[i] - sine + k.center_x);
        for (int64_t j = 0; j < c; j++) y[j] = from ? from[j] : pixel_value<T>(k.fill.f32()[j]);
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
