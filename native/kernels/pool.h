// Pooling over windows of one, two or three dimensions (the missing ones have size 1), channels last, and its gradients;
// `window` as in window.h.
//   max: the largest value in the window, NaN never being larger, and where it was: `positions` = its index in x (of one
//     sample, or of the batch where `batch_positions`), -1 for none; the gradient goes to the first position that holds it
//     (the last where `last`, as tfjs has it in three dimensions)
//   average: the mean over the positions inside x (`none` where there is none); the gradient divides by the whole window, as
//     tfjs defines it
// Vectors run along channels. Parallel over rows of y; gradients over bands of channels and pieces of x, each visiting the
// windows that reach it in order. A GPU is parallel over values of y and, for gradients, of x: it finds the position behind each
// result, then every value gathers the gradients that are its own, in order. Bytes: each x and y once, x again for overlapping windows.
#pragma once
#include "window.h"

namespace simmim {

inline void check_pool(const Tensor& x, const Tensor& y, const Ints& window) {
  require(x.shape.rank == 5 && y.shape.rank == 5, "x and y have ranks %d and %d, expected 5", x.shape.rank, y.shape.rank);
  require(x.dim(0) == y.dim(0) && x.dim(4) == y.dim(4), "y has a batch of %lld and %lld channels, x %lld and %lld", static_cast<long long>(y.dim(0)), static_cast<long long>(y.dim(4)), static_cast<long long>(x.dim(0)), static_cast<long long>(x.dim(4)));
  require(x.shape.span(1, 4) < (int64_t{1} << 31), "x has %lld positions in a sample, at most 2^31 are supported", static_cast<long long>(x.shape.span(1, 4)));
  check_window(window);
}

struct Pool {
  static constexpr const char* name = "pool";
  Tensor x, y, positions;  // [B, D, H, W, C], [B, P, Q, R, C] twice
  Ints window;
  bool average, batch_positions;
  float none;
  static auto spec() {
    return fields(in("x", &Pool::x, kF32 | kI32), out("y", &Pool::y, kF32 | kI32), optional_out("positions", &Pool::positions, kI32), par("window", &Pool::window), par("average", &Pool::average), par("batch_positions", &Pool::batch_positions), par("none", &Pool::none));
  }
  void check() const {
    check_pool(x, y, window);
    require(x.dtype == y.dtype, "y is %s, expected %s like x", name_of(y.dtype), name_of(x.dtype));
    require(!average || (x.dtype == DType::f32 && !positions.present()), "the average takes float32 and has no positions, x is %s", name_of(x.dtype));
    require(!positions.present() || positions.shape == y.shape, "positions must have the shape of y");
  }
};

struct PoolGrad {
  static constexpr const char* name = "pool_grad";
  Tensor x, dy, dx;  // x may be absent for the average
  Ints window;
  bool average, last;
  void* workspace = nullptr;
  static auto spec() { return fields(optional_in("x", &PoolGrad::x, kF32), in("dy", &PoolGrad::dy, kF32), out("dx", &PoolGrad::dx, kF32), par("window", &PoolGrad::window), par("average", &PoolGrad::average), par("last", &PoolGrad::last)); }
  void check() const {
    check_pool(dx, dy, window);
    require(average || (x.present() && x.shape == dx.shape), "max pooling needs x, with the shape of dx");
  }
  size_t workspace_bytes() const { return 0; }
  /// The position that each result came from.
  size_t cuda_workspace_bytes() const { return average ? 0 : dy.bytes(); }
};

}  // namespace simmim
