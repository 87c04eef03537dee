// The names that unary_ops.h and binary_ops.h use, for one float in a thread of a GPU (elementary.h has them for a
// register of floats on the CPU).
#pragma once
#include "../cuda/device.cuh"
#include "../cuda/gelu.cuh"
#include "scalar_ops.h"

namespace simmim::cuda {

using Vec = float;

SIMMIM_DEVICE float splat(float f) { return f; }
SIMMIM_DEVICE float select(bool condition, float yes, float no) { return condition ? yes : no; }
SIMMIM_DEVICE float abs(float x) { return fabsf(x); }
SIMMIM_DEVICE float sqrt(float x) { return sqrtf(x); }
SIMMIM_DEVICE float floor(float x) { return floorf(x); }
SIMMIM_DEVICE float ceil(float x) { return ceilf(x); }
SIMMIM_DEVICE float round_even(float x) { return nearbyintf(x); }
SIMMIM_DEVICE float exp(float x) { return expf(x); }
SIMMIM_DEVICE float expm1(float x) { return expm1f(x); }
SIMMIM_DEVICE float log(float x) { return logf(x); }
SIMMIM_DEVICE float log1p(float x) { return log1pf(x); }
SIMMIM_DEVICE float erf(float x) { return erff(x); }
SIMMIM_DEVICE float tanh(float x) { return tanhf(x); }
SIMMIM_DEVICE float sign(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f; }
SIMMIM_DEVICE float clip(float x, float low, float high) { return x > high ? high : x < low ? low : x; }
/// Never overflows, and keeps the denormal results of very negative x.
SIMMIM_DEVICE float sigmoid(float x) {
  const float e = expf(-fabsf(x));
  return (x < 0 ? e : 1.0f) / (1.0f + e);
}
SIMMIM_DEVICE float selu(float x) {
  return x >= 0 ? static_cast<float>(kSeluScale) * x : static_cast<float>(kSeluScale * kSeluAlpha) * expm1f(x);
}
/// ln(1 + e^x); beyond the bounds one of the two terms is below the precision of float.
SIMMIM_DEVICE float softplus(float x) {
  const float e = expf(x);
  return x > 13.94f ? x : x < -13.94f ? e : logf(1.0f + e);
}

template <class F>
SIMMIM_DEVICE float lanes(float x, const F& f) { return f(x); }
#define LANES(function) function(x)
#define PAIRS(function) function(a, b)

}  // namespace simmim::cuda
