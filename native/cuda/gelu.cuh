// GELU with the exact error function and its derivative, in the terms of core/gelu_terms.h (cpu/gelu.h is the twin).
#pragma once
#include "../core/gelu_terms.h"
#include "device.cuh"

namespace simmim::cuda {

/// c + x rest[0] + x^2 rest[1] + ... by Horner's rule.
SIMMIM_DEVICE float polynomial(float, float c) { return c; }
template <class... Rest>
SIMMIM_DEVICE float polynomial(float x, float c, Rest... rest) {
  return fmaf(polynomial(x, rest...), x, c);
}

/// |x| up to where the tails are nothing; NaN stays.
SIMMIM_DEVICE float gelu_distance(float x) { return fabsf(x) > GeluTerms::farthest ? GeluTerms::farthest : fabsf(x); }

/// x Phi(x) = max(x, 0) - t (1 - Phi(t)) with t = |x|.
SIMMIM_DEVICE float gelu(float x) {
  using T = GeluTerms;
  const float t = gelu_distance(x);
  return (x > 0 ? x : 0.0f) - t * exp2f(polynomial(t, T::q0, T::q1, T::q2, T::q3, T::q4, T::q5, T::q6, T::q7, T::q8));
}

SIMMIM_DEVICE float gelu_derivative(float x) {
  using T = GeluTerms;
  const float t = gelu_distance(x);
  const float lower = exp2f(polynomial(t, -1.0f, T::e1, T::e2)) * polynomial(t, 1.0f, T::f1, T::f2, T::f3, T::f4, T::f5, T::f6, T::f7);
  return x < 0 ? lower : 1.0f - lower;
}

}  // namespace simmim::cuda
