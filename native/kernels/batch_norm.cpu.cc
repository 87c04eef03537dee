#include "batch_norm.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

void run(const BatchNorm& k) {
  const int64_t c = k.x.dim(1);
  float *factor = static_cast<float*>(k.workspace), *shift = factor + c;
  for (int64_t i = 0; i < c; i++) {
    const double f = (k.scale.present() ? k.scale.f32()[i] : 1.0) / __builtin_sqrt(static_cast<double>(k.variance.f32()[i]) + k.eps);
    factor[i] = static_cast<float>(f);
    shift[i] = k.offset.present() ? k.offset.f32()[i] : 0;
  }
  const float* mean = k.mean.f32();
  parallel_ranges(k.x.dim(0), 16384 / (c + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const float* x = k.x.f32() + r * c;
      float* y = k.y.f32() + r * c;
      for (int64_t i = 0; i < c; i++) y[i] = (x[i] - mean[i]) * factor[i] + shift[i];
    }
  });
}

}  // namespace simmim::SIMMIM_ISA
