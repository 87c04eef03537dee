// Functions of single numbers behind the unary and binary operations, the same on every device.
#pragma once
#include "../core/tensor.h"

namespace simmim {

constexpr double kSeluScale = 1.0507009873554804934193349852946, kSeluAlpha = 1.6732632423543772848170429916717;

/// The double that JavaScript would store into an Int32Array: truncated, modulo 2^32, NaN and infinities 0.
SIMMIM_INLINE int32_t to_int32(double v) {
  if (v > -2147483649.0 && v < 2147483648.0) return static_cast<int32_t>(v);
  if (!(__builtin_fabs(v) < __builtin_inf())) return 0;
  const double t = __builtin_trunc(v), wrapped = t - __builtin_floor(t / 4294967296.0) * 4294967296.0;
  return static_cast<int32_t>(static_cast<uint32_t>(wrapped));
}

/// The normal distribution function and its density.
SIMMIM_INLINE double double_phi(double x) { return 0.5 * __builtin_erfc(-x * 0.70710678118654752440); }
SIMMIM_INLINE double double_density(double x) { return 0.39894228040143267794 * __builtin_exp(-0.5 * x * x); }

/// The remainder with the divisor's sign, as tfjs defines it.
SIMMIM_INLINE double double_mod(double a, double b) {
  const double rem = __builtin_fmod(a, b);
  return (a < 0) == (b < 0) ? rem : __builtin_fmod(rem + b, b);
}
SIMMIM_INLINE float float_mod(float a, float b) {
  const float rem = __builtin_fmodf(a, b);
  return (a < 0 && b < 0) || (a >= 0 && b >= 0) ? rem : __builtin_fmodf(rem + b, b);
}
/// JavaScript's power: 1 to the power of NaN or infinity is NaN, unlike C.
SIMMIM_INLINE double double_pow(double a, double b) {
  if (__builtin_fabs(a) == 1 && !(__builtin_fabs(b) < __builtin_inf())) return __builtin_nan("");
  return __builtin_pow(a, b);
}
SIMMIM_INLINE float float_pow(float a, float b) {
  if (b == 2) return a * a;
  if (__builtin_fabsf(a) == 1 && !(__builtin_fabsf(b) < __builtin_inff())) return __builtin_nanf("");
  return __builtin_powf(a, b);
}

}  // namespace simmim
