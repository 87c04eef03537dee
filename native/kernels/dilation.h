// Greyscale morphological dilation, channels last, and its gradients; `window` as in window.h (depth 1 in tfjs):
//   y[b, p, q, c] = max over (i, j) inside x of x[b, p s_h + i d_h - t, q s_w + j d_w - l, c] + w[i, j, c]
// Where nothing is larger (no position inside, NaN) y is kNothing. The gradient of x goes to the first position that holds the
// maximum, that of w to its tap; where there is none, to the first position inside and the first tap.
// Vectors run along channels. Parallel over rows of y; the gradient of x over bands of channels and pieces of x, that of w
// over pieces of y whose sums are added in order. A GPU is parallel over values: it finds the position or tap behind each result,
// then gathers. 2 B P Q KH KW C flops each.
#pragma once
#include "window.h"

namespace simmim {

inline void check_dilation(const Tensor& x, const Tensor& filter, const Tensor& y, const Ints& window) {
  require(x.shape.rank == 5 && filter.shape.rank == 4 && y.shape.rank == 5, "x, filter, y have ranks %d, %d, %d, expected 5, 4, 5", x.shape.rank, filter.shape.rank, y.shape.rank);
  check_window(window);
  check_filter_size(window, filter, 3);
  require(x.dim(0) == y.dim(0), "y has a batch of %lld, expected %lld", static_cast<long long>(y.dim(0)), static_cast<long long>(x.dim(0)));
  require(filter.dim(3) == x.dim(4) && y.dim(4) == x.dim(4), "filter and y have %lld and %lld channels, expected %lld", static_cast<long long>(filter.dim(3)), static_cast<long long>(y.dim(4)), static_cast<long long>(x.dim(4)));
  require(x.shape.span(1, 4) < (int64_t{1} << 31), "x has %lld positions in a sample, at most 2^31 are supported", static_cast<long long>(x.shape.span(1, 4)));
}

struct Dilation {
  static constexpr const char* name = "dilation";
  static constexpr float kNothing = -9007199254740991.0f;
  Tensor x, filter, y;  // [B, D, H, W, C], [KD, KH, KW, C], [B, P, Q, R, C]
  Ints window;
  static auto spec() { return fields(in("x", &Dilation::x, kF32), in("filter", &Dilation::filter, kF32), out("y", &Dilation::y, kF32), par("window", &Dilation::window)); }
  void check() const { check_dilation(x, filter, y, window); }
};

struct DilationInputGrad {
  static constexpr const char* name = "dilation_input_grad";
  Tensor x, filter, dy, dx;
  Ints window;
  void* workspace = nullptr;
  static auto spec() { return fields(in("x", &DilationInputGrad::x, kF32), in("filter", &DilationInputGrad::filter, kF32), in("dy", &DilationInputGrad::dy, kF32), out("dx", &DilationInputGrad::dx, kF32), par("window", &DilationInputGrad::window)); }
  void check() const {
    check_dilation(x, filter, dy, window);
    require(dx.shape == x.shape, "dx must have the shape of x");
  }
  size_t workspace_bytes() const { return 0; }
  /// The position that each result came from.
  size_t cuda_workspace_bytes() const { return dy.bytes(); }
};

struct DilationFilterGrad {
  static constexpr const char* name = "dilation_filter_grad";
  Tensor x, filter, dy, dfilter;
  Ints window;
  void* workspace = nullptr;
  static auto spec() {
    return fields(in("x", &DilationFilterGrad::x, kF32), in("filter", &DilationFilterGrad::filter, kF32), in("dy", &DilationFilterGrad::dy, kF32), out("dfilter", &DilationFilterGrad::dfilter, kF32), par("window", &DilationFilterGrad::window));
  }
  void check() const {
    check_dilation(x, filter, dy, window);
    require(dfilter.shape == filter.shape, "dfilter must have the shape of filter");
  }
  /// Pieces of the rows of dy, each with its own sums.
  SIMMIM_INLINE int64_t pieces() const {
    const int64_t rows = dy.shape.span(0, 3);
    return rows < 16 ? rows : 16;
  }
  size_t workspace_bytes() const { return static_cast<size_t>(pieces() * dfilter.count()) * 4; }
  /// The tap that each result came from, and sums of pieces.
  size_t cuda_workspace_bytes() const { return dy.bytes() + static_cast<size_t>(position_pieces(dy.shape.span(0, 4)) * dfilter.count()) * 4; }
};

}  // namespace simmim
