// Depthwise convolution, channels last, one filter per channel: y[b, p, q, c] = bias[c] + sum_{i, j} x[b, p s_h + i d_h - t,
// q s_w + j d_w - l, c] w[i, j, c], and its gradients; `window` as in window.h, of depth 1. (Several filters per channel are
// the same over an x whose channels are repeated.) A few results along the width stay in registers, vectors run along
// channels; the gradient of x is the same over dy, one class of positions (mod the strides) after the other. Parallel over
// rows of the result; the filter's gradient over pieces of dy whose sums are added in order. A GPU has a thread for each value of
// y, of the gradient of x, or of a piece's sums. 2 B P Q KH KW C flops each.
#pragma once
#include "activation.h"
#include "window.h"

namespace simmim {

inline void check_depthwise(const Tensor& x, const Tensor& filter, const Tensor& y, const Ints& window) {
  require(x.shape.rank == 4 && filter.shape.rank == 3 && y.shape.rank == 4, "x, filter, y have ranks %d, %d, %d, expected 4, 3, 4", x.shape.rank, filter.shape.rank, y.shape.rank);
  check_window(window);
  require(window[0] == 1 && window[3] == 1 && window[9] == 0, "the window must have depth 1");
  require(window[1] == filter.dim(0) && window[2] == filter.dim(1), "the window is %lld x %lld, the filter %lld x %lld", static_cast<long long>(window[1]), static_cast<long long>(window[2]), static_cast<long long>(filter.dim(0)), static_cast<long long>(filter.dim(1)));
  require(x.dim(0) == y.dim(0), "y has a batch of %lld, expected %lld", static_cast<long long>(y.dim(0)), static_cast<long long>(x.dim(0)));
  require(filter.dim(2) == x.dim(3) && y.dim(3) == x.dim(3), "filter and y have %lld and %lld channels, expected %lld", static_cast<long long>(filter.dim(2)), static_cast<long long>(y.dim(3)), static_cast<long long>(x.dim(3)));
}

struct Depthwise {
  static constexpr const char* name = "depthwise";
  Tensor x, filter, bias, y;  // [B, H, W, C], [KH, KW, C], [C], [B, P, Q, C]
  Ints window;
  int32_t activation;
  float alpha;
  static auto spec() {
    return fields(in("x", &Depthwise::x, kF32), in("filter", &Depthwise::filter, kF32), optional_in("bias", &Depthwise::bias, kF32), out("y", &Depthwise::y, kF32), par("window", &Depthwise::window), par("activation", &Depthwise::activation), par("alpha", &Depthwise::alpha));
  }
  void check() const {
    check_depthwise(x, filter, y, window);
    check_activation(activation);
    require(!bias.present() || bias.count() == y.dim(3), "bias has %lld values, expected %lld", static_cast<long long>(bias.count()), static_cast<long long>(y.dim(3)));
  }
};

struct DepthwiseInputGrad {
  static constexpr const char* name = "depthwise_input_grad";
  Tensor dy, filter, dx;
  Ints window;
  static auto spec() { return fields(in("dy", &DepthwiseInputGrad::dy, kF32), in("filter", &DepthwiseInputGrad::filter, kF32), out("dx", &DepthwiseInputGrad::dx, kF32), par("window", &DepthwiseInputGrad::window)); }
  void check() const { check_depthwise(dx, filter, dy, window); }
};

struct DepthwiseFilterGrad {
  static constexpr const char* name = "depthwise_filter_grad";
  Tensor x, dy, dfilter;
  Ints window;
  void* workspace = nullptr;
  static auto spec() { return fields(in("x", &DepthwiseFilterGrad::x, kF32), in("dy", &DepthwiseFilterGrad::dy, kF32), out("dfilter", &DepthwiseFilterGrad::dfilter, kF32), par("window", &DepthwiseFilterGrad::window)); }
  void check() const { check_depthwise(x, dfilter, dy, window); }
  /// Pieces of the rows of dy, each with its own sums.
  SIMMIM_INLINE int64_t pieces() const {
    const int64_t rows = dy.dim(0) * dy.dim(1);
    return rows < 16 ? rows : 16;
  }
  size_t workspace_bytes() const { return static_cast<size_t>(pieces() * dfilter.count()) * 4; }
  size_t cuda_workspace_bytes() const { return static_cast<size_t>(position_pieces(dy.shape.span(0, 3)) * dfilter.count()) * 4; }
};

}  // namespace simmim
