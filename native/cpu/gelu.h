// GELU with the exact error function, x Phi(x) with Phi(x) = (1 + erf(x / sqrt 2)) / 2, and its derivative
// Phi(x) + x phi(x) (Hendrycks and Gimpel 2016), by the polynomials of core/gelu_terms.h. Absolute error of Phi below 1e-7.
//
// Everything works on N registers side by side: four take 60 % of the time of four times one.
#pragma once
#include "../core/gelu_terms.h"
#include "vmath.h"

namespace simmim::SIMMIM_ISA {

constexpr int kGeluRegisters = 4;

/// y = 2^(y t + c) for exponents in [-126, 126]: relative error below 2e-7. Additions hold up the units that multiply and add, so most of
/// them are part of a product.
template <int N>
SIMMIM_INLINE void gelu_exp2(Vec (&y)[N], const Vec (&t)[N], float c) {
  static constexpr float terms[] = {1.0f, 0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151299f, 0.00132647273f};
  const float magic = 12582912.0f + c;  // 1.5 * 2^23: the integer part of the exponent lands in the low mantissa bits
  Vec shifted[N];
  for (int i = 0; i < N; i++) {
    shifted[i] = fma(y[i], t[i], splat(magic));
    y[i] = fma(y[i], t[i], magic - shifted[i]);
  }
  Vec r[N];
  polynomials(y, terms, r);
  for (int i = 0; i < N; i++) y[i] = from_bits(bits(r[i]) + (bits(shifted[i]) << 23));
}

/// x Phi(x) = max(x, 0) - t (1 - Phi(t)) with t = |x|; 1 - Phi(t) = 2^Q(t), whose relative error is small around 0 and whose absolute
/// error everywhere. Beyond `farthest` the second term is nothing.
template <int N>
SIMMIM_INLINE void gelu(Vec (&x)[N]) {
  using Q = GeluTerms;
  static constexpr float c[] = {Q::q1, Q::q2, Q::q3, Q::q4, Q::q5, Q::q6, Q::q7, Q::q8};
  Vec t[N], upper[N];
  for (int i = 0; i < N; i++) t[i] = min(abs(x[i]), splat(GeluTerms::farthest));
  polynomials(t, c, upper);
  gelu_exp2(upper, t, Q::q0);
  for (int i = 0; i < N; i++) x[i] = max(Vec{}, x[i]) - t[i] * upper[i];  // NaN, the second operand, stays
}

/// x becomes GELU'(x): for x = -t the product of 2^(quadratic in t) and another polynomial, 1 minus that for x = t.
template <int N>
SIMMIM_INLINE void gelu_derivative(Vec (&x)[N]) {
  using T = GeluTerms;
  static constexpr float exponent[] = {T::e1, T::e2}, factor[] = {1.0f, T::f1, T::f2, T::f3, T::f4, T::f5, T::f6, T::f7};
  Vec t[N], power[N], slope[N];
  for (int i = 0; i < N; i++) t[i] = min(splat(T::farthest), abs(x[i]));  // NaN, the second operand, stays
  polynomials(t, exponent, power);
  gelu_exp2(power, t, -1.0f);
  polynomials(t, factor, slope);
  for (int i = 0; i < N; i++) {
    slope[i] *= power[i];
    x[i] = select(bits(x[i]) < 0, slope[i], 1.0f - slope[i]);
  }
}

SIMMIM_INLINE Vec gelu(Vec x) {
  Vec one[] = {x};
  gelu(one);
  return one[0];
}
SIMMIM_INLINE Vec gelu_derivative(Vec x) {
  Vec one[] = {x};
  gelu_derivative(one);
  return one[0];
}

}  // namespace simmim::SIMMIM_ISA
