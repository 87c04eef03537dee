// GELU with the exact error function and its derivative, in the terms of core/gelu_terms.h (cpu/gelu.h is the twin).
#pragma once
#include "../core/gelu_terms.h"
#include "device.cuh"

namespace simmim::cuda {

/// |x| up to where the tails are nothing; NaN stays.
SIMMIM_DEVICE float gelu_distance(float x) { return fabsf(x) > GeluTerms::farthest ? GeluTerms::farthest : fabsf(x); }

/// x Phi(x) = max(x, 0) - t (1 - Phi(t)) with t = |x|.
SIMMIM_DEVICE float gelu(float x) {
  using T = GeluTerms;
  const float t = gelu_distance(x);
  float q = fmaf(T::q8, t, T::q7);
  q = fmaf(q, t, T::q6);
  q = fmaf(q, t, T::q5);
  q = fmaf(q, t, T::q4);
  q = fmaf(q, t, T::q3);
  q = fmaf(q, t, T::q2);
  q = fmaf(q, t, T::q1);
  q = fmaf(q, t, T::q0);
  return (x > 0 ? x : 0.0f) - t * exp2f(q);
}

SIMMIM_DEVICE float gelu_derivative(float x) {
  using T = GeluTerms;
  const float t = gelu_distance(x);
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
