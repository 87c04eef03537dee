#include "grad_norm.h"

#include "../cpu/reduce.h"
#include "../cpu/thread_pool.h"

namespace simmim::SIMMIM_ISA {

void run(const GradNorm& k) {
  const float* flat = k.flat.f32();
  double* sums = static_cast<double*>(k.workspace);
  parallel_ranges(k.flat.count(), GradNorm::kBlock, [&](int64_t begin, int64_t end) {
    sums[begin / GradNorm::kBlock] = long_sum(begin, end, [&](int64_t i, int n) {
      const Vec g = load_lanes(flat + i, n);
      return g * g;
    });
  });
  double total = 0;
  for (int64_t block = 0; block < k.blocks(); block++) total += sums[block];
  *k.y.f32() = static_cast<float>(__builtin_sqrt(total));
}

void run(const GradClip& k) {
  const float factor = k.clip / (*k.norm.f32() + 1e-6f), scale = factor > 1 ? 1.0f : factor;
  float* flat = k.flat.f32();
  parallel_ranges(k.flat.count(), 1 << 15, [&](int64_t begin, int64_t end) {
    for_lanes(end - begin, [&](int64_t i, int n) { store_lanes(flat + begin + i, load_lanes(flat + begin + i, n) * scale, n); });
  });
}

}  // namespace simmim::SIMMIM_ISA
