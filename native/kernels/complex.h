// Complex numbers as two float tensors, real and imaginary parts.
//   complex_multiply  y = a b, element by element
//   complex_abs       y = sqrt(re^2 + im^2), without overflow; infinite where a part is, as hypot
// Parallel over ranges. Bytes: each part once.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct ComplexMultiply {
  static constexpr const char* name = "complex_multiply";
  Tensor a_real, a_imag, b_real, b_imag, y_real, y_imag;  // one shape
  static auto spec() {
    return fields(in("a_real", &ComplexMultiply::a_real, kF32), in("a_imag", &ComplexMultiply::a_imag, kF32), in("b_real", &ComplexMultiply::b_real, kF32), in("b_imag", &ComplexMultiply::b_imag, kF32), out("y_real", &ComplexMultiply::y_real, kF32),
                  out("y_imag", &ComplexMultiply::y_imag, kF32));
  }
  void check() const {
    for (const Tensor* t : {&a_imag, &b_real, &b_imag, &y_real, &y_imag}) require(t->count() == a_real.count(), "a part has %lld values, expected %lld as a_real", static_cast<long long>(t->count()), static_cast<long long>(a_real.count()));
  }
};

struct ComplexAbs {
  static constexpr const char* name = "complex_abs";
  Tensor real, imag, y;  // one shape
  static auto spec() { return fields(in("real", &ComplexAbs::real, kF32), in("imag", &ComplexAbs::imag, kF32), out("y", &ComplexAbs::y, kF32)); }
  void check() const { require(imag.count() == real.count() && y.count() == real.count(), "imag and y have %lld and %lld values, expected %lld", static_cast<long long>(imag.count()), static_cast<long long>(y.count()), static_cast<long long>(real.count())); }
};

}  // namespace simmim
