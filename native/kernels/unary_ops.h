// The one-argument functions, one line each:
//   UNARY(name, on a register of floats, on one double)
// The double form serves int32 and bool inputs, which JavaScript computes in doubles too. `a` and `b` are
// the op's two parameters. The bodies are expanded only in unary.cpu.cc, where the functions they call are visible.
#pragma once

// clang-format off
#define SIMMIM_UNARY_OPS(UNARY)                                                                                     \
  UNARY(abs, abs(x), __builtin_fabs(x))                                                                             \
  UNARY(neg, -x, 0 - x)                                                                                             \
  UNARY(square, x * x, x * x)                                                                                       \
  UNARY(sqrt, sqrt(x), __builtin_sqrt(x))                                                                           \
  UNARY(rsqrt, splat(1.0f) / sqrt(x), 1 / __builtin_sqrt(x))                                                        \
  UNARY(reciprocal, splat(1.0f) / x, 1 / x)                                                                         \
  UNARY(sign, sign(x), x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0)                                                            \
  UNARY(ceil, ceil(x), __builtin_ceil(x))                                                                           \
  UNARY(floor, floor(x), __builtin_floor(x))                                                                        \
  UNARY(round, round_even(x), __builtin_nearbyint(x))                                                               \
  UNARY(relu, select((x > splat(0.0f)) | (x != x), x, Vec{}), x > 0 ? x : 0.0)                                      \
  UNARY(relu6, clip(x, splat(0.0f), splat(6.0f)), x > 6 ? 6.0 : x > 0 ? x : 0.0)                                    \
  UNARY(clip, clip(x, a, b), x > b ? b : x < a ? a : x)                                                             \
  UNARY(leaky_relu, select(x < splat(0.0f), a * x, x), x < 0 ? a * x : x)                                           \
  UNARY(step, select(x != x, x, select(x > splat(0.0f), splat(1.0f), a)), x > 0 ? 1.0 : a)                          \
  UNARY(exp, exp(x), __builtin_exp(x))                                                                              \
  UNARY(expm1, expm1(x), __builtin_expm1(x))                                                                   \
  UNARY(log, log(x), __builtin_log(x))                                                                              \
  UNARY(log1p, log1p(x), __builtin_log1p(x))                                                                   \
  UNARY(sigmoid, sigmoid(x), 1 / (1 + __builtin_exp(-x)))                                                           \
  UNARY(softplus, softplus(x), x > 13.94 ? x : x < -13.94 ? __builtin_exp(x) : __builtin_log(1 + __builtin_exp(x))) \
  UNARY(elu, select((x >= splat(0.0f)) | (x != x), x, expm1(x)), x >= 0 ? x : __builtin_expm1(x))           \
  UNARY(selu, selu(x), x >= 0 ? kSeluScale * x : kSeluScale * kSeluAlpha * __builtin_expm1(x))                      \
  UNARY(erf, erf(x), __builtin_erf(x))                                                                              \
  UNARY(tanh, tanh(x), __builtin_tanh(x))                                                                           \
  UNARY(sin, LANES(sinf), __builtin_sin(x))                                                                         \
  UNARY(cos, LANES(cosf), __builtin_cos(x))                                                                         \
  UNARY(tan, lanes(x, [](float f) { return static_cast<float>(__builtin_tan(f)); }), __builtin_tan(x))                                                                         \
  UNARY(asin, LANES(asinf), __builtin_asin(x))                                                                      \
  UNARY(acos, LANES(acosf), __builtin_acos(x))                                                                      \
  UNARY(atan, LANES(atanf), __builtin_atan(x))                                                                      \
  UNARY(sinh, LANES(sinhf), __builtin_sinh(x))                                                                      \
  UNARY(cosh, LANES(coshf), __builtin_cosh(x))                                                                      \
  UNARY(asinh, LANES(asinhf), __builtin_asinh(x))                                                                   \
  UNARY(acosh, LANES(acoshf), __builtin_acosh(x))                                                                   \
  UNARY(atanh, LANES(atanhf), __builtin_atanh(x))                                                                   \
  UNARY(gelu, gelu(x), x * double_phi(x))

// Questions with a yes or no: PREDICATE(name, on a float f)
#define SIMMIM_PREDICATES(PREDICATE)                            \
  PREDICATE(is_nan, f != f)                                     \
  PREDICATE(is_inf, __builtin_fabsf(f) == __builtin_inff())     \
  PREDICATE(is_finite, __builtin_fabsf(f) < __builtin_inff())   \
  PREDICATE(logical_not, f == 0)
// clang-format on

#define SIMMIM_OP_ID(name, ...) name,
#define SIMMIM_OP_NAME(name, ...) #name " "
