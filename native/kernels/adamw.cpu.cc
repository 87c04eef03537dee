#include "adamw.h"

#include "../cpu/reduce.h"
#include "../cpu/thread_pool.h"

namespace simmim::SIMMIM_ISA {

/// The numbers of one segment, in the form the inner loop wants them.
struct AdamWSegment {
  float clip, keep, lr, beta1_rest, beta2_rest, root_correction, eps;
};

static AdamWSegment segment_numbers(const AdamW& k, int64_t s) {
  const float* h = k.hyper.f32();
  const float norm = *k.norm.f32(), lr = h[0] * k.lr_scale.f32()[s], decay = h[1] * k.decay_scale.f32()[s];
  const float factor = h[7] > 0 ? h[7] / (norm + 1e-6f) : 1.0f;
  return {factor < 1 ? factor : 1.0f, 1 - lr * decay, lr / h[5], h[2], h[3], __builtin_sqrtf(h[6]), h[4]};
}

static void update(const AdamW& k, const AdamWSegment& s, int64_t begin, int64_t end) {
  float *weights = k.weights.f32() + begin, *ms = k.m.f32() + begin, *vs = k.v.f32() + begin;
  const float* gradient = k.gradient.f32() + begin;
  uint16_t* shadow = k.shadow.present() ? k.shadow.bf16() + begin : nullptr;
  const float keep_v = 1 - s.beta2_rest;
  for_lanes(end - begin, [&](int64_t i, int n) {
    const Vec g = load_lanes(gradient + i, n) * s.clip, old = load_lanes(ms + i, n);
    const Vec m = fma(splat(s.beta1_rest), g - old, old);
    const Vec v = fma(load_lanes(vs + i, n), splat(keep_v), s.beta2_rest * (g * g));
    const Vec step = s.lr * (m / (sqrt(v) / s.root_correction + s.eps));
    const Vec w = load_lanes(weights + i, n) * s.keep - step;
    store_lanes(ms + i, m, n);
    store_lanes(vs + i, v, n);
    store_lanes(weights + i, w, n);
    if (shadow) store_lanes(shadow + i, w, n);
  });
}

void run(const AdamW& k) {
  const float norm = *k.norm.f32();
  if (!(__builtin_fabsf(norm) < __builtin_inff())) return;
  const int32_t* ends = k.ends.i32();
  const int64_t segments = k.ends.count();
  parallel_ranges(k.weights.count(), 1 << 15, [&](int64_t begin, int64_t end) {
    int64_t low = 0, high = segments;  // the first segment that ends after `begin`
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (ends[middle] > begin) high = middle;
      else low = middle + 1;
    }
    for (int64_t s = low; s < segments && begin < end; s++) {
      const int64_t stop = ends[s] < end ? ends[s] : end;
      if (stop <= begin) continue;
      update(k, segment_numbers(k, s), begin, stop);
      begin = stop;
    }
  });
}

}  // namespace simmim::SIMMIM_ISA
