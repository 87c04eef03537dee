// Depthwise convolution, channels last: y[b, p, q, c M + m] = sum_{i, j} x[b, p s_h + i d_h - t, q s_w + j d_w - l, c] w[i, j, c, m],
// and its gradients; `window` as in conv.h. Vectors run along channels. Parallel over rows of the result; the filter's
// gradient over taps and bands of channels. 2 B P Q KH KW C M flops each.
#pragma once
#include "conv.h"

namespace simmim {

inline void check_depthwise(const Tensor& x, const Tensor& filter, const Tensor& y, const Ints& window) {
  require(x.shape.rank == 4 && filter.shape.rank == 4 && y.shape.rank == 4, "x, filter, y have ranks %d, %d, %d, expected 4", x.shape.rank, filter.shape.rank, y.shape.rank);
  check_window(window);
  require(x.dim(0) == y.dim(0) && filter.dim(2) == x.dim(3) && y.dim(3) == x.dim(3) * filter.dim(3), "y or filter do not fit x");
}

struct Depthwise {
  static constexpr const char* name = "depthwise";
  Tensor x, filter, y;  // [B, H, W, C], [KH, KW, C, M], [B, P, Q, C M]
  Ints window;
  static constexpr auto spec() { return fields(in("x", &Depthwise::x, kF32), in("filter", &Depthwise::filter, kF32), out("y", &Depthwise::y, kF32), par("window", &Depthwise::window)); }
  void check() const { check_depthwise(x, filter, y, window); }
};

struct DepthwiseInputGrad {
  static constexpr const char* name = "depthwise_input_grad";
  Tensor dy, filter, dx;
  Ints window;
  static constexpr auto spec() { return fields(in("dy", &DepthwiseInputGrad::dy, kF32), in("filter", &DepthwiseInputGrad::filter, kF32), out("dx", &DepthwiseInputGrad::dx, kF32), par("window", &DepthwiseInputGrad::window)); }
  void check() const { check_depthwise(dx, filter, dy, window); }
};

struct DepthwiseFilterGrad {
  static constexpr const char* name = "depthwise_filter_grad";
  Tensor x, dy, dfilter;
  Ints window;
  static constexpr auto spec() { return fields(in("x", &DepthwiseFilterGrad::x, kF32), in("dy", &DepthwiseFilterGrad::dy, kF32), out("dfilter", &DepthwiseFilterGrad::dfilter, kF32), par("window", &DepthwiseFilterGrad::window)); }
  void check() const { check_depthwise(x, dfilter, dy, window); }
};

}  // namespace simmim
