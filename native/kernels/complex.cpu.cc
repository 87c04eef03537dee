#include "complex.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

static constexpr int64_t kGrain = 1 << 14;

void run(const ComplexMultiply& k) {
  const float *ar = k.a_real.f32(), *ai = k.a_imag.f32(), *br = k.b_real.f32(), *bi = k.b_imag.f32();
  float *yr = k.y_real.f32(), *yi = k.y_imag.f32();
  parallel_ranges(k.a_real.count(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const float a = ar[i], b = ai[i], c = br[i], d = bi[i];
      yr[i] = a * c - b * d;
      yi[i] = a * d + b * c;
    }
  });
}

void run(const ComplexAbs& k) {
  const float *re = k.real.f32(), *im = k.imag.f32();
  parallel_ranges(k.real.count(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const double a = re[i], b = im[i];
      const bool infinite = __builtin_fabs(a) == __builtin_inf() || __builtin_fabs(b) == __builtin_inf();
      k.y.f32()[i] = infinite ? __builtin_inff() : static_cast<float>(__builtin_sqrt(a * a + b * b));
    }
  });
}

}  // namespace simmim::SIMMIM_ISA
