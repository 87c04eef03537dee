// GELU with the exact error function and its derivative, in the terms of core/gelu_terms.h (cpu/gelu.h is the twin).
#pragma once
#include "../core/gelu_terms.h"
#include "device.cuh"

namespace simmim::cuda {

/// Phi(x), the normal distribution function.
SIMMIM_DEVICE float gelu_phi(float x) {
  using T = GeluTerms;
  const float t = fminf(fabsf(x), T::farthest);
  float q = fmaf(T::q8, t, T::q7);
  q = fmaf(q, t, T::q6);
  q = fmaf(q, t, T::q5);
  q = fmaf(q, t, T::q4);
  q = fmaf(q, t, T::q3);
  q = fmaf(q, t, T::q2);
  q = fmaf(q, t, T::q1);
  q = fmaf(q, t, T::q0);
  const float upper = exp2f(q);
  return x < 0 ? upper : 1.0f - upper;
}

SIMMIM_DEVICE float gelu(float x) { return x * gelu_phi(x); }

SIMMIM_DEVICE float gelu_derivative(float x) {
  using T = GeluTerms;
  const float t = fabsf(x) > T::farthest ? T::farthest : fabsf(x);  // NaN stays
  float f = fmaf(T::f7, t, T::f6);
  f = fmaf(f, t, T::f5);
  f = fmaf(f, t, T::f4);
  f = fmaf(f, t, T::f3);
  f = fmaf(f, t, T::f2);
  f = fmaf(f, t, T::f1);
  f = fmaf(f, t, 1.0f);
  const float lower = exp2f(fmaf(fmaf(T::e2, t, T::e1), t, -1.0f)) * f;
  return x < 0 ? lower : 1.0f - lower;
}

}  // namespace simmim::cuda
