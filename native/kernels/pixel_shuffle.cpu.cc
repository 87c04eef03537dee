#include "pixel_shuffle.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

/// move(feature run, pixel run, r) for every run of r values that lies together in both layouts.
template <class T, class F>
static void shuffle(const Tensor& cells, const Tensor& image, const F& move) {
  if (image.count() == 0) return;
  const int64_t h = cells.dim(1), w = cells.dim(2), features = cells.dim(3), planes = image.dim(1), width = image.dim(3), r = width / w;
  parallel_for(cells.dim(0) * h, [&](int64_t row) {
    const int64_t b = row / h, y = row % h;
    for (int64_t c = 0; c < planes; c++)
      for (int64_t i = 0; i < r; i++)
        for (int64_t x = 0; x < w; x++) {
          T* feature = cells.as<T>() + (row * w + x) * features + (c * r + i) * r;
          T* pixel = image.as<T>() + ((b * planes + c) * h * r + y * r + i) * width + x * r;
          move(feature, pixel, r);
        }
  });
}

template <class T>
static SIMMIM_INLINE void copy_run(const T* from, T* to, int64_t n) {
  for (int64_t j = 0; j < n; j++) to[j] = from[j];
}

void run(const PixelShuffle& k) {
  const auto lay_out = [](auto* feature, auto* pixel, int64_t r) { copy_run(feature, pixel, r); };
  if (k.pred.dtype == DType::bf16) shuffle<uint16_t>(k.pred, k.y, lay_out);
  else shuffle<float>(k.pred, k.y, lay_out);
}

void run(const PixelShuffleGrad& k) {
  const auto collect = [](auto* feature, auto* pixel, int64_t r) { copy_run(pixel, feature, r); };
  if (k.dy.dtype == DType::bf16) shuffle<uint16_t>(k.dpred, k.dy, collect);
  else shuffle<float>(k.dpred, k.dy, collect);
}

}  // namespace simmim::SIMMIM_ISA
