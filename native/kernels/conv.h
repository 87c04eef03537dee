// Two-dimensional convolution, channels last: y[b, p, q, :] = sum_{i, j} x[b, p s_h + i d_h - t, q s_w + j d_w - l, :] w[i, j, :, :] (+ bias),
// and its gradients. `window` = strides (h, w), dilations (h, w), padding (top, left).
// Patches are laid out as rows of a matrix, a few megabytes at a time, and multiplied with the filter; the gradient of x
// is the same over dy, one class of positions (mod the stride) after the other, so that no product meets zeros put in.
// Parallel inside the layout and the product. 2 B P Q KH KW C O flops each.
#pragma once
#include "../core/kernel.h"

namespace simmim {

struct ConvWindow {
  int64_t stride_h, stride_w, dilation_h, dilation_w, top, left;
};

inline ConvWindow conv_window(const Ints& w) { return {w[0], w[1], w[2], w[3], w[4], w[5]}; }

inline void check_window(const Ints& window) {
  require(window.size == 6, "window has %d entries, expected 6: strides, dilations, padding", window.size);
  for (int i = 0; i < 6; i++) require(window[i] >= (i < 4 ? 1 : -(1 << 24)) && window[i] <= (1 << 24), "window[%d] is %lld", i, static_cast<long long>(window[i]));
}

inline void check_conv(const Tensor& x, const Tensor& filter, const Tensor& y, const Ints& window) {
  require(x.shape.rank == 4 && filter.shape.rank == 4 && y.shape.rank == 4, "x, filter, y have ranks %d, %d, %d, expected 4", x.shape.rank, filter.shape.rank, y.shape.rank);
  check_window(window);
  require(filter.dim(0) >= 1 && filter.dim(1) >= 1 && filter.dim(2) >= 1, "filter is %lld x %lld over %lld channels", static_cast<long long>(filter.dim(0)), static_cast<long long>(filter.dim(1)), static_cast<long long>(filter.dim(2)));
  require(x.dim(0) == y.dim(0), "y has a batch of %lld, expected %lld", static_cast<long long>(y.dim(0)), static_cast<long long>(x.dim(0)));
  require(filter.dim(2) == x.dim(3), "filter takes %lld channels, x has %lld", static_cast<long long>(filter.dim(2)), static_cast<long long>(x.dim(3)));
  require(filter.dim(3) == y.dim(3), "filter makes %lld channels, y has %lld", static_cast<long long>(filter.dim(3)), static_cast<long long>(y.dim(3)));
}

/// Rows of patches laid out at a time.
SIMMIM_INLINE int64_t patch_rows(int64_t rows, int64_t width) {
  const int64_t fitting = (int64_t{4} << 20) / (width * 4 + 1) + 1, wanted = fitting < 256 ? 256 : fitting;
  return rows < wanted ? rows : wanted;
}

struct Conv2D {
  static constexpr const char* name = "conv2d";
  Tensor x, filter, bias, y;  // [B, H, W, C], [KH, KW, C, O], [O], [B, P, Q, O]
  Ints window;
  void* workspace = nullptr;
  static constexpr auto spec() { return fields(in("x", &Conv2D::x, kF32), in("filter", &Conv2D::filter, kF32), optional_in("bias", &Conv2D::bias, kF32), out("y", &Conv2D::y, kF32), par("window", &Conv2D::window)); }
  void check() const {
    check_conv(x, filter, y, window);
    require(!bias.present() || bias.count() == y.dim(3), "bias has %lld values, expected %lld", static_cast<long long>(bias.count()), static_cast<long long>(y.dim(3)));
  }
  SIMMIM_INLINE int64_t width() const { return filter.shape.span(0, 3); }
  size_t workspace_bytes() const { return static_cast<size_t>(patch_rows(y.shape.span(0, 3), width()) * width()) * 4; }
};

struct Conv2DInputGrad {
  static constexpr const char* name = "conv2d_input_grad";
  Tensor dy, filter, dx;
  Ints window;
  void* workspace = nullptr;
  static constexpr auto spec() { return fields(in("dy", &Conv2DInputGrad::dy, kF32), in("filter", &Conv2DInputGrad::filter, kF32), out("dx", &Conv2DInputGrad::dx, kF32), par("window", &Conv2DInputGrad::window)); }
  static constexpr int64_t kMaxTaps = 256;  // along one axis
  void check() const {
    check_conv(dx, filter, dy, window);
    require(filter.dim(0) <= kMaxTaps && filter.dim(1) <= kMaxTaps, "filter is %lld x %lld, supported are at most %lld", static_cast<long long>(filter.dim(0)), static_cast<long long>(filter.dim(1)), static_cast<long long>(kMaxTaps));
  }
  SIMMIM_INLINE int64_t width() const { return filter.dim(0) * filter.dim(1) * filter.dim(3); }
  SIMMIM_INLINE int64_t rows() const { return patch_rows(dx.shape.span(0, 3), width()); }
  /// Patches of dy, the filter in their order, and one block of results.
  size_t workspace_bytes() const { return static_cast<size_t>(rows() * width() + filter.count() + rows() * dx.dim(3)) * 4; }
};

struct Conv2DFilterGrad {
  static constexpr const char* name = "conv2d_filter_grad";
  Tensor x, dy, dfilter;
  Ints window;
  void* workspace = nullptr;
  static constexpr auto spec() { return fields(in("x", &Conv2DFilterGrad::x, kF32), in("dy", &Conv2DFilterGrad::dy, kF32), out("dfilter", &Conv2DFilterGrad::dfilter, kF32), par("window", &Conv2DFilterGrad::window)); }
  void check() const { check_conv(x, dfilter, dy, window); }
  SIMMIM_INLINE int64_t width() const { return dfilter.shape.span(0, 3); }
  size_t workspace_bytes() const { return static_cast<size_t>(patch_rows(dy.shape.span(0, 3), width()) * width()) * 4; }
};

}  // namespace simmim
