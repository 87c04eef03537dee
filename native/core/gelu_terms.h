// The numbers behind GELU, the same on every device: 1 - Phi(t) = 2^Q(t) for t in [0, 14], Q(0) = -1, and the normal
// density. Our own least-squares fit, reweighted towards equal error, against 40-digit values: the absolute error of
// Phi is below 1e-7.
#pragma once

namespace simmim {

struct GeluTerms {
  static constexpr float q0 = -1.0f, q1 = -1.15110898f, q2 = -0.459164679f, q3 = -0.0526555255f, q4 = 0.00732561434f, q5 = -0.000356177596f,
                         q6 = -9.02325191e-05f, q7 = 1.86076213e-05f, q8 = -1.09248219e-06f;
  static constexpr float farthest = 14.0f;
  static constexpr float density = 0.39894228040143268f;    // 1 / sqrt(2 pi)
  static constexpr float exponent = -0.72134752044448170f;  // -log2(e) / 2
  static constexpr float last_square = 170.0f;              // beyond it the density is below 2^-122
};

}  // namespace simmim
