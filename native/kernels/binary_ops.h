// The two-argument functions, one line each; expanded in binary.cpu.cc.
//   ARITHMETIC(name, on registers of floats, on doubles)  the double form serves int32 (truncated as JavaScript does)
//   COMPARISON(name, body)                                on two numbers of one type, result 0 or 1
#pragma once
#include "unary_ops.h"

// clang-format off
#define SIMMIM_ARITHMETIC_OPS(ARITHMETIC)                                                                       \
  ARITHMETIC(add, a + b, a + b)                                                                                 \
  ARITHMETIC(sub, a - b, a - b)                                                                                 \
  ARITHMETIC(mul, a * b, a * b)                                                                                 \
  ARITHMETIC(div, a / b, a / b)                                                                                 \
  ARITHMETIC(maximum, select((a > b) | (a != a), a, b), a > b ? a : b)                                          \
  ARITHMETIC(minimum, select((a < b) | (a != a), a, b), a < b ? a : b)                                          \
  ARITHMETIC(squared_difference, (a - b) * (a - b), (a - b) * (a - b))                                          \
  ARITHMETIC(floor_div, floor(a / b), __builtin_floor(a / b))                                                   \
  ARITHMETIC(mod, PAIRS(float_mod), double_mod(a, b))                                                           \
  ARITHMETIC(pow, PAIRS(float_pow), double_pow(a, b))                                                           \
  ARITHMETIC(atan2, PAIRS(__builtin_atan2f), __builtin_atan2(a, b))                                             \
  ARITHMETIC(prelu, select(a < Vec{}, a * b, a), a < 0 ? a * b : a)                                             \
  ARITHMETIC(elu_grad, select(b >= Vec{}, a, a * (b + splat(1.0f))), b >= 0 ? a : a * (b + 1))                  \
  ARITHMETIC(bitwise_and, a, static_cast<double>(to_int32(a) & to_int32(b)))                                    \
  ARITHMETIC(gelu_grad, a * gelu_derivative(b), a * (double_phi(b) + b * double_density(b)))

#define SIMMIM_COMPARISON_OPS(COMPARISON)  \
  COMPARISON(equal, a == b)                \
  COMPARISON(not_equal, a != b)            \
  COMPARISON(greater, a > b)               \
  COMPARISON(greater_equal, a >= b)        \
  COMPARISON(less, a < b)                  \
  COMPARISON(less_equal, a <= b)           \
  COMPARISON(logical_and, a && b)          \
  COMPARISON(logical_or, a || b)
// clang-format on
