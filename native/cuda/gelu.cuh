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
  const float square = x * x;
  // Far out the density is zero, lest a huge x revive it.
  const float density = square < T::last_square ? T::density * exp2f(square * T::exponent) : 0.0f;
  return fmaf(x, density, gelu_phi(x));
}

}  // namespace simmim::cuda
