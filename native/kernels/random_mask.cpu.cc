#include "random_mask.h"

#include "../core/rng.h"
#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

/// The largest t such that fewer than `count` keys are below t: the count-th smallest key (keys differ; count >= 1).
static uint64_t kth_smallest(const uint64_t* keys, int64_t n, int64_t count) {
  uint64_t threshold = 0;
  for (int bit = 63; bit >= 0; bit--) {
    const uint64_t candidate = threshold | uint64_t{1} << bit;
    int64_t below = 0;
    for (int64_t i = 0; i < n; i++) below += keys[i] < candidate;
    if (below < count) threshold = candidate;
  }
  return threshold;
}

void run(const RandomMask& k) {
  const int64_t batch = k.y.dim(0), rows = k.rows(), columns = k.columns(), cells = rows * columns, repeat = k.repeat, width = columns * repeat;
  const int32_t* clock = k.clock.i32();
  parallel_for(batch, [&](int64_t b) {
    uint64_t* keys = static_cast<uint64_t*>(k.workspace) + b * cells;
    for (int64_t c = 0; c < cells; c++) {
      const uint64_t index = static_cast<uint64_t>((clock[2] * batch + b) * cells + c);
      const PhiloxWords words = philox(static_cast<uint32_t>(clock[0]), static_cast<uint32_t>(k.site), static_cast<uint32_t>(clock[1]), index);
      keys[c] = static_cast<uint64_t>(words.w[0]) << 32 | static_cast<uint64_t>(c);
    }
    const uint64_t last = k.count > 0 ? kth_smallest(keys, cells, k.count) : 0;
    float* y = k.y.f32() + b * rows * repeat * width;
    for (int64_t row = 0; row < rows * repeat; row++)
      for (int64_t x = 0; x < width; x++) y[row * width + x] = k.count > 0 && keys[row / repeat * columns + x / repeat] <= last ? 1.0f : 0.0f;
  });
}

}  // namespace simmim::SIMMIM_ISA
