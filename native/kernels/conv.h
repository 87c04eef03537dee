// Convolution over one, two or three dimensions (the missing ones have size 1), channels last, and its gradients:
//   y[b, p, q, r, :] = bias + sum_{i, j, k} x[b, p s_d + i d_d - f, q s_h + j d_h - t, r s_w + k d_w - l, :] w[i, j, k, :, :]
// with strides s, dilations d and padding (f, t, l); `window` as in window.h.
// Windows of up to a few thousand values are multiplied with the filter where they lie (conv_direct.h); patches of longer ones
// are laid out as rows of a matrix, a few megabytes at a time, which all threads multiply together. The gradient of x is the
// same over dy with the filter turned round, one class of positions (mod the strides) after the other, so that no product
// meets zeros put in; that of the filter is summed over slices of the rows, whose sums are added in order. A GPU multiplies
// dy with the filter and gathers what the windows over each value of x got. 2 B P Q R KD KH KW C O flops each.
#pragma once
#include "activation.h"
#include "window.h"

namespace simmim {

inline void check_conv(const Tensor& x, const Tensor& filter, const Tensor& y, const Ints& window) {
  require(x.shape.rank == 5 && filter.shape.rank == 5 && y.shape.rank == 5, "x, filter, y have ranks %d, %d, %d, expected 5", x.shape.rank, filter.shape.rank, y.shape.rank);
  check_window(window);
  check_filter_size(window, filter, 3);
  require(x.dim(0) == y.dim(0), "y has a batch of %lld, expected %lld", static_cast<long long>(y.dim(0)), static_cast<long long>(x.dim(0)));
  require(filter.dim(3) == x.dim(4), "filter takes %lld channels, x has %lld", static_cast<long long>(filter.dim(3)), static_cast<long long>(x.dim(4)));
  require(filter.dim(4) == y.dim(4), "filter makes %lld channels, y has %lld", static_cast<long long>(filter.dim(4)), static_cast<long long>(y.dim(4)));
}

/// Whether windows over `c` channels are multiplied with a filter of `o` channels where they lie, for `lines` lines of `width`
/// results: long windows are not, nor short lines and few of them, which make poor tiles and little use of a large filter.
/// Parts of lines that are copied to have zeros around them stay small.
SIMMIM_INLINE bool is_direct(const Ints& window, int64_t c, int64_t o, int64_t lines, int64_t width) {
  const Window w = window_of(window);
  const int64_t depth = w.taps() * c, copied = w.size[0] * w.size[1] * ((w.size[2] - 1) * w.dilation[2] + 1) * c;
  const bool reused = depth * o <= 1 << 16 || (width >= 12 && lines * width >= 128);
  return (depth <= 2304 || (o <= 16 && depth <= 16384)) && copied <= 1 << 18 && reused;
}
/// Floats of a filter in panels of up to 32 channels, and of its bias.
SIMMIM_INLINE int64_t panel_floats(int64_t depth, int64_t channels) { return (depth + 1) * ((channels + 31) / 32 * 32); }

/// Whether the filter's gradient is summed slice by slice from blocks of patches, each by one thread.
SIMMIM_INLINE bool is_sliced(int64_t depth, int64_t channels) { return channels <= 128 && depth <= 2304; }
/// Rows of such a block: half a megabyte of patches.
SIMMIM_INLINE int64_t block_rows(int64_t depth) {
  const int64_t fitting = (int64_t{1} << 17) / (depth + 1);
  return fitting < 512 ? fitting : 512;
}

/// Rows of patches laid out at a time where all threads share them.
SIMMIM_INLINE int64_t patch_rows(int64_t rows, int64_t width) {
  const int64_t fitting = (int64_t{4} << 20) / (width * 4 + 1) + 1, wanted = fitting < 256 ? 256 : fitting;
  return rows < wanted ? rows : wanted;
}

/// The same on a GPU, which needs more of them at once: up to 64 MB.
SIMMIM_INLINE int64_t cuda_patch_rows(int64_t rows, int64_t width) {
  const int64_t fitting = (int64_t{16} << 20) / (width + 1) + 1, wanted = fitting < 256 ? 256 : fitting;
  return rows < wanted ? rows : wanted;
}

/// A filter of one tap without stride and padding reads x as it is.
SIMMIM_INLINE bool is_pointwise(const Tensor& x, const Tensor& y, const Window& w) {
  bool plain = w.taps() == 1;
  for (int i = 0; i < 3; i++) plain = plain && x.dim(1 + i) == y.dim(1 + i) && w.stride[i] == 1 && w.pad[i] == 0;
  return plain;
}
SIMMIM_INLINE size_t cuda_patch_bytes(const Tensor& x, const Tensor& y, const Ints& window, int64_t width) {
  return is_pointwise(x, y, window_of(window)) ? 0 : static_cast<size_t>(cuda_patch_rows(y.shape.span(0, 4), width) * width) * 4;
}

struct Conv {
  static constexpr const char* name = "conv";
  Tensor x, filter, bias, y;  // [B, D, H, W, C], [KD, KH, KW, C, O], [O], [B, P, Q, R, O]
  Ints window;
  int32_t activation;
  float alpha;
  void* workspace = nullptr;
  static auto spec() {
    return fields(in("x", &Conv::x, kF32), in("filter", &Conv::filter, kF32), optional_in("bias", &Conv::bias, kF32), out("y", &Conv::y, kF32), par("window", &Conv::window), par("activation", &Conv::activation), par("alpha", &Conv::alpha));
  }
  void check() const {
    check_conv(x, filter, y, window);
    check_activation(activation);
    require(!bias.present() || bias.count() == y.dim(4), "bias has %lld values, expected %lld", static_cast<long long>(bias.count()), static_cast<long long>(y.dim(4)));
  }
  SIMMIM_INLINE int64_t width() const { return filter.shape.span(0, 4); }
  SIMMIM_INLINE int64_t rows() const { return patch_rows(y.shape.span(0, 4), width()); }
  /// Windows of one position are the rows of a matrix as they are.
  SIMMIM_INLINE bool direct() const { return is_direct(window, x.dim(4), y.dim(4), y.shape.span(0, 3), y.dim(3)) && (y.dim(4) <= 16 || !is_pointwise(x, y, window_of(window))); }
  /// The filter in panels, or patches.
  size_t workspace_bytes() const { return static_cast<size_t>(direct() ? panel_floats(width(), y.dim(4)) : rows() * width()) * 4; }
  size_t cuda_workspace_bytes() const { return cuda_patch_bytes(x, y, window, width()); }
};

struct ConvInputGrad {
  static constexpr const char* name = "conv_input_grad";
  Tensor dy, filter, dx;
  Ints window;
  void* workspace = nullptr;
  static auto spec() { return fields(in("dy", &ConvInputGrad::dy, kF32), in("filter", &ConvInputGrad::filter, kF32), out("dx", &ConvInputGrad::dx, kF32), par("window", &ConvInputGrad::window)); }
  void check() const { check_conv(dx, filter, dy, window); }
  SIMMIM_INLINE int64_t width() const { return filter.shape.span(0, 3) * filter.dim(4); }
  SIMMIM_INLINE int64_t rows() const { return patch_rows(dx.shape.span(0, 4), width()); }
  SIMMIM_INLINE bool direct() const { return is_direct(window, dy.dim(4), dx.dim(4), dx.shape.span(0, 3) / window[4], dx.dim(3) / window[5]); }
  /// The filter in the order of the windows over dy, then that in panels, or patches of dy and one block of results.
  size_t workspace_bytes() const { return static_cast<size_t>(filter.count() + (direct() ? panel_floats(width(), dx.dim(4)) : rows() * (width() + dx.dim(4)))) * 4; }
  /// A GPU makes the gradients of whole samples' patches, as many as fit into 64 MB but at least one, and gathers from them.
  SIMMIM_INLINE int64_t cuda_patches() const { return dy.shape.span(1, 4) * filter.shape.span(0, 4); }
  SIMMIM_INLINE int64_t cuda_samples() const {
    const int64_t fitting = (int64_t{16} << 20) / (cuda_patches() + 1) + 1;
    return dy.dim(0) < fitting ? dy.dim(0) : fitting;
  }
  size_t cuda_workspace_bytes() const { return static_cast<size_t>(cuda_samples() * cuda_patches()) * 4; }
};

struct ConvFilterGrad {
  static constexpr const char* name = "conv_filter_grad";
  Tensor x, dy, dfilter;
  Ints window;
  void* workspace = nullptr;
  static auto spec() { return fields(in("x", &ConvFilterGrad::x, kF32), in("dy", &ConvFilterGrad::dy, kF32), out("dfilter", &ConvFilterGrad::dfilter, kF32), par("window", &ConvFilterGrad::window)); }
  void check() const { check_conv(x, dfilter, dy, window); }
  SIMMIM_INLINE int64_t width() const { return dfilter.shape.span(0, 4); }
  /// Slices of the rows, each with its own sums; 1 where all threads work on the same patches.
  SIMMIM_INLINE int64_t slices() const {
    if (!is_sliced(width(), dy.dim(4))) return 1;
    const int64_t wanted = dy.shape.span(0, 4) / block_rows(width()), fitting = (int64_t{1} << 21) / (dfilter.count() + 1);
    const int64_t most = wanted < fitting ? wanted : fitting;
    return most < 4 ? 1 : most > 16 ? 16 : most;
  }
  /// Sums of the slices, or patches.
  size_t workspace_bytes() const { return static_cast<size_t>(slices() > 1 ? slices() * dfilter.count() : patch_rows(dy.shape.span(0, 4), width()) * width()) * 4; }
  size_t cuda_workspace_bytes() const { return cuda_patch_bytes(x, dy, window, width()); }
};

}  // namespace simmim
