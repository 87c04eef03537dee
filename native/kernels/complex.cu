#include "complex.h"

#include "../cuda/launch.cuh"

namespace simmim::cuda {

namespace {

struct MultiplyComplex {
  const float *ar, *ai, *br, *bi;
  float *yr, *yi;
  __device__ void operator()(int64_t i) const {
    const float a = ar[i], b = ai[i], c = br[i], d = bi[i];
    yr[i] = a * c - b * d;
    yi[i] = a * d + b * c;
  }
};

struct Modulus {
  const float *real, *imag;
  float* y;
  __device__ void operator()(int64_t i) const {
    const double a = real[i], b = imag[i];
    const bool infinite = __builtin_fabs(a) == __builtin_inf() || __builtin_fabs(b) == __builtin_inf();
    y[i] = infinite ? __builtin_inff() : static_cast<float>(::sqrt(a * a + b * b));
  }
};

}  // namespace

void run(const ComplexMultiply& k, Stream& stream) {
  for_each(stream, k.a_real.count(), MultiplyComplex{k.a_real.f32(), k.a_imag.f32(), k.b_real.f32(), k.b_imag.f32(), k.y_real.f32(), k.y_imag.f32()});
}

void run(const ComplexAbs& k, Stream& stream) { for_each(stream, k.real.count(), Modulus{k.real.f32(), k.imag.f32(), k.y.f32()}); }

}  // namespace simmim::cuda
