// A window that slides over (depth, height, width); two-dimensional ops have depth 1. Shared by convolutions, pooling and
// morphological dilation: `window` among a kernel's parameters = sizes, strides, dilations, padding before the first position.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct Window {
  int64_t size[3], stride[3], dilation[3], pad[3];
  /// What tap `i` of the window at position `at` of the result reads along `axis`; may lie outside.
  SIMMIM_INLINE int64_t source(int axis, int64_t at, int64_t i) const { return at * stride[axis] + i * dilation[axis] - pad[axis]; }
  SIMMIM_INLINE int64_t taps() const { return size[0] * size[1] * size[2]; }
};

SIMMIM_INLINE Window window_of(const Ints& w) {
  Window out;
  for (int i = 0; i < 3; i++) out.size[i] = w[i], out.stride[i] = w[3 + i], out.dilation[i] = w[6 + i], out.pad[i] = w[9 + i];
  return out;
}

inline void check_window(const Ints& window) {
  require(window.size == 12, "window has %d entries, expected 12: sizes, strides, dilations and padding of three axes", window.size);
  for (int i = 0; i < 12; i++) require(window[i] >= (i < 9 ? 1 : -(1 << 24)) && window[i] <= (1 << 24), "window[%d] is %lld", i, static_cast<long long>(window[i]));
}

/// The taps [begin, end) of the window at `at` that lie inside x [B, D, H, W, C], per axis.
struct Inside {
  int64_t begin[3], end[3];
  SIMMIM_INLINE Inside(const Shape& x, const Window& w, const int64_t* at) {
    for (int i = 0; i < 3; i++) {
      const int64_t start = w.source(i, at[i], 0), step = w.dilation[i], size = x.dims[1 + i];
      begin[i] = start < 0 ? (step - 1 - start) / step : 0;
      end[i] = start < size ? (size - 1 - start) / step + 1 : 0;
      if (end[i] > w.size[i]) end[i] = w.size[i];
    }
  }
  SIMMIM_INLINE int64_t count() const {
    int64_t n = 1;
    for (int i = 0; i < 3; i++) n *= end[i] > begin[i] ? end[i] - begin[i] : 0;
    return n;
  }
};

/// Calls f(number of the position in its sample, number of the tap) for every tap inside x, in row-major order.
template <class F>
SIMMIM_INLINE void each_in_window(const Shape& x, const Window& w, const int64_t* at, const Inside& in, const F& f) {
  for (int64_t i = in.begin[0]; i < in.end[0]; i++)
    for (int64_t j = in.begin[1]; j < in.end[1]; j++) {
      const int64_t line = (w.source(0, at[0], i) * x.dims[2] + w.source(1, at[1], j)) * x.dims[3], tap = (i * w.size[1] + j) * w.size[2];
      for (int64_t k = in.begin[2]; k < in.end[2]; k++) f(line + w.source(2, at[2], k), tap + k);
    }
}

/// A part of the gradient of x that one thread computes alone: rows [from, to) along `axis` of sample b, `n` channels from `first`.
struct WindowPiece {
  int64_t b, from, to, first, n;
  int axis;
};

/// x [B, D, H, W, C] cut into pieces; depends on the shapes alone.
struct WindowPieces {
  static constexpr int64_t kBand = 64;  // channels at a time
  int axis;
  int64_t rows, height, pieces, bands, channels, batch;
  SIMMIM_INLINE WindowPieces(const Shape& x, const Window& w) {
    channels = x.dims[4], batch = x.dims[0];
    axis = x.dims[1] > 1 ? 0 : 1;
    rows = x.dims[1 + axis];
    bands = (channels + kBand - 1) / kBand;
    const int64_t work = x.span(1, 4) / rows * (channels < kBand ? channels : kBand) * w.taps();
    // As high as four windows, so that few windows are visited twice.
    const int64_t enough = 32768 / (work + 1) + 1, tall = 4 * ((w.size[axis] - 1) * w.dilation[axis] + 1);
    height = enough > tall ? enough : tall;
    pieces = (rows + height - 1) / height;
  }
  SIMMIM_INLINE int64_t count() const { return batch * pieces * bands; }
  SIMMIM_INLINE WindowPiece operator[](int64_t item) const {
    const int64_t first = item % bands * kBand, from = item / bands % pieces * height;
    return {item / (bands * pieces), from, from + height < rows ? from + height : rows, first, channels - first < kBand ? channels - first : kBand, axis};
  }
};

/// Whether a position of a sample lies in the piece.
SIMMIM_INLINE bool is_in_piece(const Shape& x, const WindowPiece& p, int64_t position) {
  const int64_t row = position / x.span(2 + p.axis, 4) % x.dims[1 + p.axis];
  return row >= p.from && row < p.to;
}

/// Calls f(position of y along depth and height, number of the line's first result in the batch) for every line of results
/// whose windows reach the piece, in row-major order.
template <class F>
SIMMIM_INLINE void each_reaching_line(const Shape& y, const Window& w, const WindowPiece& p, const F& f) {
  int64_t lower[2] = {}, upper[2] = {y.dims[1], y.dims[2]}, at[3] = {};
  const int64_t reach = (w.size[p.axis] - 1) * w.dilation[p.axis], stride = w.stride[p.axis], pad = w.pad[p.axis];
  const int64_t first = p.from + pad - reach, last = p.to - 1 + pad;
  lower[p.axis] = first > 0 ? (first + stride - 1) / stride : 0;
  if (last < 0) upper[p.axis] = 0;
  else if (last / stride + 1 < upper[p.axis]) upper[p.axis] = last / stride + 1;
  for (at[0] = lower[0]; at[0] < upper[0]; at[0]++)
    for (at[1] = lower[1]; at[1] < upper[1]; at[1]++) f(at, ((p.b * y.dims[1] + at[0]) * y.dims[2] + at[1]) * y.dims[3]);
}

/// Whether all windows of a line of results lie inside the piece's rows.
SIMMIM_INLINE bool is_wholly_in_piece(const Window& w, const WindowPiece& p, const int64_t* at) {
  return w.source(p.axis, at[p.axis], 0) >= p.from && w.source(p.axis, at[p.axis], w.size[p.axis] - 1) < p.to;
}

/// Zeros in the piece's part of dx.
SIMMIM_INLINE void clear_piece(float* dx, const Shape& x, const WindowPiece& p) {
  const int64_t c = x.dims[4], inner = x.span(2 + p.axis, 4), outer = p.axis == 0 ? 1 : x.dims[1], rows = x.dims[1 + p.axis];
  for (int64_t o = 0; o < outer; o++)
    for (int64_t r = (o * rows + p.from) * inner; r < (o * rows + p.to) * inner; r++) __builtin_memset(dx + (p.b * x.span(1, 4) + r) * c + p.first, 0, static_cast<size_t>(p.n) * 4);
}

/// One axis of the gradient of what a window slides over: the positions first, first + step, ... (step = the stride; one class
/// per remainder) and the filter taps last, last - tap_step, ... that reach them. In this order of taps the gradient is a
/// window itself: stride 1 over the positions of the class, and this dilation and padding over dy.
struct GradientClass {
  int64_t first, step, count, taps = 0, last = 0, tap_step, dilation, pad = 0;
};

/// How many classes an axis of `extent` positions has.
SIMMIM_INLINE int64_t gradient_classes(const Window& w, int axis, int64_t extent) { return w.stride[axis] < extent ? w.stride[axis] : extent; }

SIMMIM_INLINE GradientClass gradient_class(const Window& w, int axis, int64_t remainder, int64_t extent) {
  const int64_t stride = w.stride[axis], dilation = w.dilation[axis], reach = remainder + w.pad[axis];
  int64_t common = stride;
  for (int64_t b = dilation; b != 0;) {
    const int64_t rest = common % b;
    common = b;
    b = rest;
  }
  GradientClass c;
  c.first = remainder;
  c.step = stride;
  c.count = (extent - remainder + stride - 1) / stride;
  c.tap_step = stride / common;
  c.dilation = dilation / common;
  for (int64_t tap = 0; tap < c.tap_step && tap < w.size[axis]; tap++) {
    if ((reach - tap * dilation) % stride != 0) continue;
    c.taps = (w.size[axis] - 1 - tap) / c.tap_step + 1;
    c.last = tap + (c.taps - 1) * c.tap_step;
    c.pad = -((reach - c.last * dilation) / stride);
    break;
  }
  return c;
}

/// Pieces of `positions` results that a GPU sums for a filter's gradient, each on its own.
SIMMIM_INLINE int64_t position_pieces(int64_t positions) {
  const int64_t pieces = (positions + 255) / 256;
  return pieces < 512 ? pieces : 512;
}

/// The window's sizes are those of a filter of `rank` dims, the last `spatial` of which before its channels are positions.
inline void check_filter_size(const Ints& window, const Tensor& filter, int spatial) {
  for (int i = 0; i < 3; i++) {
    const int64_t size = i < 3 - spatial ? 1 : filter.dim(i - (3 - spatial));
    require(window[i] == size, "the window has size %lld along axis %d, expected %lld as the filter", static_cast<long long>(window[i]), i, static_cast<long long>(size));
  }
}

}  // namespace simmim
