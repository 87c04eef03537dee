// GELU with the exact error function, x Phi(x) with Phi(x) = (1 + erf(x / sqrt 2)) / 2, and its derivative
// Phi(x) + x phi(x) (Hendrycks and Gimpel 2016). Absolute error of Phi below 1e-7. The polynomials are our own
// least-squares fits, reweighted towards equal error, against 40-digit values.
#pragma once
#include "../core/gelu_terms.h"
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

/// Phi(x), the normal distribution function: 1 - Phi(|x|) = 2^Q(|x|), one polynomial for the whole range, with Q(0) = -1. Its relative
/// error is small around 0 and its absolute error everywhere, which is what x Phi(x) needs.
SIMMIM_INLINE Vec gelu_phi(Vec x) {
  const Vec t = min(abs(x), splat(GeluTerms::farthest));
  Vec q = fma(splat(GeluTerms::q8), t, splat(GeluTerms::q7));
  q = fma(q, t, splat(GeluTerms::q6));
  q = fma(q, t, splat(GeluTerms::q5));
  q = fma(q, t, splat(GeluTerms::q4));
  q = fma(q, t, splat(GeluTerms::q3));
  q = fma(q, t, splat(GeluTerms::q2));
  q = fma(q, t, splat(GeluTerms::q1));
  q = fma(q, t, splat(GeluTerms::q0));
  const Vec upper = gelu_exp2(max(q, splat(-126.0f)));
  return select(x < 0.0f, upper, 1.0f - upper);
}

SIMMIM_INLINE Vec gelu(Vec x) { return x * gelu_phi(x); }

SIMMIM_INLINE Vec gelu_derivative(Vec x) {
  const Vec square = x * x;
  const Vec density = GeluTerms::density * gelu_exp2(max(square * GeluTerms::exponent, splat(-126.0f)));
  return fma(x, select(square < GeluTerms::last_square, density, Vec{}), gelu_phi(x));  // below 2^-122: zero, lest a huge x revive it
}

}  // namespace simmim::SIMMIM_ISA
