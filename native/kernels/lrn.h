// Local response normalisation over channels (Krizhevsky et al. 2012, section 3.3, as tfjs scales it):
//   y[r, c] = x[r, c] n[r, c]^-beta,   n[r, c] = bias + alpha sum_{|j - c| <= radius} x[r, j]^2
// and its gradient
//   dx[r, c] = dy[r, c] n[r, c]^-beta - 2 alpha beta x[r, c] sum_{|j - c| <= radius} dy[r, j] y[r, j] / n[r, j].
// Parallel over rows; vectors run along channels. Nothing is saved but x and y. About 2 (radius + 1) flops per element, twice
// that for the gradient; bytes: each tensor once.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct Lrn {
  static constexpr const char* name = "lrn";
  Tensor x, y;  // [R, C]
  int64_t radius;
  float bias, alpha, beta;
  static auto spec() { return fields(in("x", &Lrn::x, kF32), out("y", &Lrn::y, kF32), par("radius", &Lrn::radius), par("bias", &Lrn::bias), par("alpha", &Lrn::alpha), par("beta", &Lrn::beta)); }
  void check() const {
    require(x.shape.rank == 2 && x.shape == y.shape, "x and y must have the same shape of rank 2, x has rank %d", x.shape.rank);
    require(radius >= 0, "radius is %lld, expected 0 or more", static_cast<long long>(radius));
  }
};

struct LrnGrad {
  static constexpr const char* name = "lrn_grad";
  Tensor x, y, dy, dx;  // [R, C]
  int64_t radius;
  float bias, alpha, beta;
  void* workspace = nullptr;
  static auto spec() {
    return fields(in("x", &LrnGrad::x, kF32), in("y", &LrnGrad::y, kF32), in("dy", &LrnGrad::dy, kF32), out("dx", &LrnGrad::dx, kF32), par("radius", &LrnGrad::radius), par("bias", &LrnGrad::bias), par("alpha", &LrnGrad::alpha), par("beta", &LrnGrad::beta));
  }
  void check() const {
    require(x.shape.rank == 2 && x.shape == y.shape && x.shape == dy.shape && x.shape == dx.shape, "x, y, dy and dx must have the same shape of rank 2, x has rank %d", x.shape.rank);
    require(radius >= 0, "radius is %lld, expected 0 or more", static_cast<long long>(radius));
  }
  /// Groups of rows that share two lines of scratch.
  SIMMIM_INLINE int64_t groups() const { return x.dim(0) < 64 ? x.dim(0) : 64; }
  size_t workspace_bytes() const { return static_cast<size_t>(groups() * 2 * x.dim(1)) * 4; }
  /// One value per element of x.
  size_t cuda_workspace_bytes() const { return x.bytes(); }
};

}  // namespace simmim
