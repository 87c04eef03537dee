#include "pixel_shuffle.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

/// move(feature run, pixel run) for every run of r values that lies together in both layouts.
template <class F>
static void shuffle(const Tensor& cells, const Tensor& image, const F& move) {
  if (image.count() == 0) return;
  const int64_t h = cells.dim(1), w = cells.dim(2), features = cells.dim(3), planes = image.dim(1), width = image.dim(3), r = width / w;
  parallel_for(cells.dim(0) * h, [&](int64_t row) {
    const int64_t b = row / h, y = row % h;
    for (int64_t c = 0; c < planes; c++)
      for (int64_t i = 0; i < r; i++)
        for (int64_t x = 0; x < w; x++) {
          float* feature = cells.f32() + (row * w + x) * features + (c * r + i) * r;
          float* pixel = image.f32() + ((b * planes + c) * h * r + y * r + i) * width + x * r;
          move(feature, pixel, r);
        }
  });
}

void run(const PixelShuffle& k) {
  shuffle(k.pred, k.y, [](const float* feature, float* pixel, int64_t r) {
    for (int64_t j = 0; j < r; j++) pixel[j] = feature[j];
  });
}

void run(const PixelShuffleGrad& k) {
  shuffle(k.dpred, k.dy, [](float* feature, const float* pixel, int64_t r) {
    for (int64_t j = 0; j < r; j++) feature[j] = pixel[j];
  });
}

}  // namespace simmim::SIMMIM_ISA
