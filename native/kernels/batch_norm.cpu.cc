#include "batch_norm.h"

#include "../cpu/reduce.h"
#include "../cpu/thread_pool.h"

namespace simmim::SIMMIM_ISA {

static constexpr int64_t kBand = 4096;  // channels at a time

void run(const BatchNorm& k) {
  const int64_t c = k.x.dim(1), rows = k.x.dim(0), bands = (c + kBand - 1) / kBand;
  float* factor = static_cast<float*>(k.workspace);
  parallel_ranges(c, kBand, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) factor[i] = static_cast<float>((k.scale.present() ? k.scale.f32()[i] : 1.0) / __builtin_sqrt(static_cast<double>(k.variance.f32()[i]) + k.eps));
  });
  const float *mean = k.mean.f32(), *offset = k.offset.present() ? k.offset.f32() : nullptr;
  const int64_t together = 16384 / (c < kBand ? c + 1 : kBand) + 1, groups = (rows + together - 1) / together;
  parallel_for(bands * groups, [&](int64_t item) {
    const int64_t first = item / groups * kBand, n = c - first < kBand ? c - first : kBand, last = (item % groups + 1) * together;
    for (int64_t r = item % groups * together; r < last && r < rows; r++) {
      const float* x = k.x.f32() + r * c;
      float* y = k.y.f32() + r * c;
      for_lanes(n, [&](int64_t j, int lanes) {
        const int64_t i = first + j;
        const Vec v = (load_lanes(x + i, lanes) - load_lanes(mean + i, lanes)) * load_lanes(factor + i, lanes);
        store_lanes(y + i, offset ? v + load_lanes(offset + i, lanes) : v, lanes);
      });
    }
  });
}

}  // namespace simmim::SIMMIM_ISA
