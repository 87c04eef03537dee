// Pooling over windows of one, two or three dimensions (the missing ones have size 1), channels last, and its gradients.
// `window` = filter (d, h, w), strides, dilations, padding (front, top, left).
//   max: the largest value in the window; the gradient goes to the first position that holds it
//   average: the mean over the positions inside x; the gradient divides by the whole window, as tfjs defines it
// Vectors run along channels. Parallel over rows of y; gradients over samples and bands of channels.
#pragma once
#include "../core/kernel.h"

namespace simmim {

struct PoolWindow {
  int64_t size[3], stride[3], dilation[3], pad[3];
};

inline PoolWindow pool_window(const Ints& w) {
  PoolWindow out;
  for (int i = 0; i < 3; i++) out.size[i] = w[i], out.stride[i] = w[3 + i], out.dilation[i] = w[6 + i], out.pad[i] = w[9 + i];
  return out;
}

inline void check_pool(const Tensor& x, const Tensor& y, const Ints& window) {
  require(x.shape.rank == 5 && y.shape.rank == 5, "x and y have ranks %d and %d, expected 5", x.shape.rank, y.shape.rank);
  require(x.dim(0) == y.dim(0) && x.dim(4) == y.dim(4), "y has a batch of %lld and %lld channels, x %lld and %lld", static_cast<long long>(y.dim(0)), static_cast<long long>(y.dim(4)), static_cast<long long>(x.dim(0)), static_cast<long long>(x.dim(4)));
  require(window.size == 12, "window has %d entries, expected 12", window.size);
  for (int i = 0; i < 12; i++) require(window[i] >= (i < 9 ? 1 : -(1 << 24)) && window[i] <= (1 << 24), "window[%d] is %lld", i, static_cast<long long>(window[i]));
}

struct Pool {
  static constexpr const char* name = "pool";
  Tensor x, y;  // [B, D, H, W, C], [B, P, Q, R, C]
  Ints window;
  bool average;
  static constexpr auto spec() { return fields(in("x", &Pool::x, kF32), out("y", &Pool::y, kF32), par("window", &Pool::window), par("average", &Pool::average)); }
  void check() const { check_pool(x, y, window); }
};

struct PoolGrad {
  static constexpr const char* name = "pool_grad";
  Tensor x, dy, dx;  // x may be absent for the average
  Ints window;
  bool average;
  static constexpr auto spec() { return fields(optional_in("x", &PoolGrad::x, kF32), in("dy", &PoolGrad::dy, kF32), out("dx", &PoolGrad::dx, kF32), par("window", &PoolGrad::window), par("average", &PoolGrad::average)); }
  void check() const {
    check_pool(dx, dy, window);
    require(average || (x.present() && x.shape == dx.shape), "max pooling needs x, with the shape of dx");
  }
};

}  // namespace simmim
