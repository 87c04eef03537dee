// GELU with the exact error function, x Phi(x) with Phi(x) = (1 + erf(x / sqrt 2)) / 2, and its derivative
// Phi(x) + x phi(x) (Hendrycks and Gimpel 2016). Absolute error of Phi below 1e-7. The polynomials are our own
// least-squares fits, reweighted towards equal error, against 40-digit values.
#pragma once
#include "vec.h"

namespace simmim::SIMMIM_ISA {

/// 2^p for p in [-126, 126]: relative error below 2e-7.
SIMMIM_INLINE Vec gelu_exp2(Vec p) {
  const Vec shifted = p + 12582912.0f;  // 1.5 * 2^23: the integer part of p lands in the low mantissa bits
  const Vec f = p - (shifted - 12582912.0f);
  Vec r = fma(splat(0.000154780122f), f, splat(0.00134004315f));
  r = fma(r, f, splat(0.00961799454f));
  r = fma(r, f, splat(0.0555032715f));
  r = fma(r, f, splat(0.240226522f));
  r = fma(r, f, splat(0.693147182f));
  r = fma(r, f, splat(1.0f));
  return from_bits(bits(r) + (bits(shifted) << 23));
}

/// Phi(x), the normal distribution function.
SIMMIM_INLINE Vec gelu_phi(Vec x) {
  const Vec t = min(abs(x) * 0.70710678118654752f, splat(10.0f));
  // |t| < 1: erf(t) = t P(t^2).
  const Vec u = t * t;
  Vec near = fma(splat(7.88912285e-05f), u, splat(-8.02084227e-04f));
  near = fma(near, u, splat(5.18953545e-03f));
  near = fma(near, u, splat(-2.68544446e-02f));
  near = fma(near, u, splat(1.12836002e-01f));
  near = fma(near, u, splat(-3.76126271e-01f));
  near = fma(near, u, splat(1.12837917f)) * t;
  // Beyond: erfc(t) = 2^Q(t).
  Vec q = fma(splat(-3.13029996e-05f), t, splat(0.000636909856f));
  q = fma(q, t, splat(-0.00606694072f));
  q = fma(q, t, splat(0.036370825f));
  q = fma(q, t, splat(-0.156420007f));
  q = fma(q, t, splat(-0.913538158f));
  q = fma(q, t, splat(-1.62963986f));
  q = fma(q, t, splat(0.000271899713f));
  const Vec far = gelu_exp2(max(q, splat(-126.0f)));
  const Vec upper = 0.5f * select(t < 1.0f, 1.0f - near, far);  // 1 - Phi(|x|)
  return select(x < 0.0f, upper, 1.0f - upper);
}

SIMMIM_INLINE Vec gelu(Vec x) { return x * gelu_phi(x); }

SIMMIM_INLINE Vec gelu_derivative(Vec x) {
  const Vec square = x * x;
  const Vec density = 0.39894228040143268f * gelu_exp2(max(square * -0.72134752044448170f, splat(-126.0f)));
  return fma(x, select(square < 170.0f, density, Vec{}), gelu_phi(x));  // below 2^-122: zero, lest a huge x revive it
}

}  // namespace simmim::SIMMIM_ISA
