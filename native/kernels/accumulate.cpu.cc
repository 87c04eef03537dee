#include "accumulate.h"

#include "../cpu/reduce.h"
#include "../cpu/thread_pool.h"

namespace simmim::SIMMIM_ISA {

void run(const Accumulate& k) {
  const float* gradient = k.gradient.f32();
  float* flat = k.flat.f32() + k.offset;
  parallel_ranges(k.gradient.count(), 1 << 15, [&](int64_t begin, int64_t end) {
    for_lanes(end - begin, [&](int64_t i, int n) {
      const Vec g = load_lanes(gradient + begin + i, n);
      store_lanes(flat + begin + i, k.overwrite ? g : load_lanes(flat + begin + i, n) + g, n);
    });
  });
}

}  // namespace simmim::SIMMIM_ISA
