// y = residual + x keep[b] / (1 - rate): stochastic depth on a residual branch (Huang et al. 2016; timm's drop_path), and
// its gradient in x (that in residual is dy itself).
//   x [B, ...]; residual and y [B, ...] of one dtype; each f32 or bf16; keep[b] = uniform(word 0 of philox(seed, site, step, micro B + b)) >= rate.
// clock int32 [4] = seed, step, micro, 0. Parallel over samples and blocks of them. The branch of a dropped sample is not read.
#pragma once
#include "../core/spec.h"

namespace simmim {

inline void check_drop_path(const Tensor& x, const Tensor& clock, double rate) {
  require(x.shape.rank >= 1, "x is a scalar, expected [B, ...]");
  require(clock.count() == 4, "clock has %lld values, expected 4 = seed, step, micro, 0", (long long)clock.count());
  require(rate >= 0 && rate < 1, "rate is %g, expected a number in [0, 1)", rate);
}

struct DropPath {
  static constexpr const char* name = "drop_path";
  Tensor x, residual, y;  // [B, ...]
  Tensor clock;           // [4]
  double rate;
  int64_t site;
  static auto spec() {
    return fields(in("x", &DropPath::x, kFloat), in("residual", &DropPath::residual, kFloat), in("clock", &DropPath::clock, kI32), out("y", &DropPath::y, kFloat),
                  par("rate", &DropPath::rate), par("site", &DropPath::site));
  }
  void check() const {
    check_drop_path(x, clock, rate);
    require(y.shape == x.shape, "y has another shape than x");
    require_like("residual", residual, "y", y);
  }
};

/// dx = dy keep[b] / (1 - rate); dx is stored as x was.
struct DropPathGrad {
  static constexpr const char* name = "drop_path_grad";
  Tensor dy, dx;  // [B, ...]
  Tensor clock;   // [4]
  double rate;
  int64_t site;
  static auto spec() {
    return fields(in("dy", &DropPathGrad::dy, kFloat), in("clock", &DropPathGrad::clock, kI32), out("dx", &DropPathGrad::dx, kFloat),
                  par("rate", &DropPathGrad::rate), par("site", &DropPathGrad::site));
  }
  void check() const {
    check_drop_path(dy, clock, rate);
    require(dx.shape == dy.shape, "dx has another shape than dy");
  }
};

}  // namespace simmim
