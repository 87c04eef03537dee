#include "range.h"

#include "../cpu/thread_pool.h"
#include "elementary.h"

namespace simmim::SIMMIM_ISA {

void run(const Range& k) {
  parallel_ranges(k.y.count(), 1 << 15, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const double v = k.start + static_cast<double>(i) * k.step;
      if (k.y.dtype == DType::f32) k.y.f32()[i] = static_cast<float>(v);
      else k.y.i32()[i] = to_int32(v);
    }
  });
}

}  // namespace simmim::SIMMIM_ISA
