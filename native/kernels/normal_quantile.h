// The quantile of the standard normal distribution (Wichura, AS 241, PPND16) for a double or for each lane of a register of
// doubles: the operations of ts/ops/random_values.ts in their order, each rounded by itself, so that all give the same bits.
#pragma once
#include "rounded_product.h"

namespace simmim {

constexpr double kCentral = 0.425;  // |p - 1/2| up to which `central_quantile` holds
constexpr double kSqrtHalf = 0.70710678118654752440;

/// Its coefficients from that of the highest power down.
template <class D, class... C>
SIMMIM_INLINE D polynomial(D x, double first, C... rest) {
  D y = first - D{};
  ((y = rounded_product(y, x) + rest), ...);
  return y;
}

/// Quantile of p = 1/2 + q.
template <class D>
SIMMIM_INLINE D central_quantile(D q) {
  const D x = 0.180625 - rounded_product(q, q);
  const D up = polynomial(x, 2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457, 13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608);
  const D down = polynomial(x, 5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867, 5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0);
  return rounded_product(q, up / down);
}

/// Minus the quantile of p = exp(-r r), for p above exp(-25).
template <class D>
SIMMIM_INLINE D tail_quantile(D r) {
  const D x = r - 1.6;
  const D up = polynomial(x, 7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734);
  const D down = polynomial(x, 1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0);
  return up / down;
}

/// Natural logarithm of mantissa 2^exponent, the mantissa from sqrt(1/2) to sqrt(2): 2 artanh((m - 1) / (m + 1)) by its series.
template <class D>
SIMMIM_INLINE D natural_log(D mantissa, D exponent) {
  const D s = (mantissa - 1.0) / (mantissa + 1.0);
  const D series = polynomial(rounded_product(s, s), 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1.0);
  return rounded_product(exponent, 0.69314718055994530942 - D{}) + rounded_product(2.0 * s, series);
}

}  // namespace simmim
