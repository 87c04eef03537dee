// The numbers behind GELU, the same on every device, for t in [0, 10]; beyond it the tails are nothing to a float:
//   1 - Phi(t) = 2^Q(t), Q(0) = -1
//   GELU'(-t) = 1 - GELU'(t) = 1 - Phi(t) - t phi(t) = 2^E(t) F(t) with E(t) = -1 + e1 t + e2 t^2 and F(0) = 1
// Our own least-squares fits, reweighted towards equal error, against 40-digit values: the absolute error of Phi is below
// 1e-7, that of GELU' 2e-8 beside rounding. One exponential for each of them; the quadratic takes the steep part of GELU'.
#pragma once

namespace simmim {

struct GeluTerms {
  static constexpr float q0 = -1.0f, q1 = -1.15110898f, q2 = -0.459164679f, q3 = -0.0526555255f, q4 = 0.00732561434f, q5 = -0.000356177596f,
                         q6 = -9.02325191e-05f, q7 = 1.86076213e-05f, q8 = -1.09248219e-06f;
  static constexpr float farthest = 10.0f;
  static constexpr float e1 = -1.005f, e2 = -0.63f;
  static constexpr float f1 = -0.899154961f, f2 = -0.432338953f, f3 = -0.191432819f, f4 = 0.00592905795f, f5 = -0.00222840975f, f6 = 0.00186084828f,
                         f7 = -0.000169683452f;
};

}  // namespace simmim
