#include "conv_depthwise.h"

#include "../cpu/column_sums.h"
#include "../cpu/reduce.h"

namespace simmim::SIMMIM_ISA {

void run(const Unary& k);

namespace {

/// Taps [begin, end) of a window that starts at `start` and lie inside [0, size).
struct Inside {
  int64_t begin, end;
  SIMMIM_INLINE Inside(int64_t start, int64_t dilation, int64_t taps, int64_t size) {
    begin = start < 0 ? (dilation - 1 - start) / dilation : 0;
    end = start < size ? (size - 1 - start) / dilation + 1 : 0;
    if (end > taps) end = taps;
    if (begin > end) begin = end;
  }
};

/// A convolution of one image plane by a window over height and width; taps may be walked backwards.
struct Plane {
  Window w;
  const float* x;  // [H, W, C]
  int64_t height, width, channels;
  const float* filter;  // tap (0, 0)
  int64_t tap_h, tap_w;  // steps between taps, in floats
  const float* bias;     // or null
};

/// Results n .. n + N - 1 of a row, as many channels as a register has (or `lanes`).
template <int N>
SIMMIM_INLINE void results(const Plane& k, int64_t row, Inside i, Inside j, int64_t n, int64_t channel, int lanes, float* y, int64_t y_step) {
  Vec sums[N];
  for (int t = 0; t < N; t++) sums[t] = k.bias ? load_lanes(k.bias + channel, lanes) : Vec{};
  const int64_t step = k.w.stride[2] * k.channels, dilation = k.w.dilation[2] * k.channels;
  for (int64_t a = i.begin; a < i.end; a++) {
    const float* x = k.x + (k.w.source(1, row, a) * k.width + k.w.source(2, n, 0)) * k.channels + channel;
    const float* f = k.filter + a * k.tap_h + channel;
    for (int64_t b = j.begin; b < j.end; b++) {
      const Vec w = load_lanes(f + b * k.tap_w, lanes);
#pragma GCC unroll 4
      for (int t = 0; t < N; t++) sums[t] = fma(load_lanes(x + b * dilation + t * step, lanes), w, sums[t]);
    }
  }
  for (int t = 0; t < N; t++) store_lanes(y + (n + t) * y_step + channel, sums[t], lanes);
}

/// Row number `row` of the result: `count` positions, y_step floats apart.
void convolve_row(const Plane& k, int64_t row, int64_t count, float* y, int64_t y_step) {
  const int64_t stride = k.w.stride[2], taps = k.w.size[2], reach = (taps - 1) * k.w.dilation[2];
  const Inside i(k.w.source(1, row, 0), k.w.dilation[1], k.w.size[1], k.height);
  // Positions [first, last) whose windows lie inside the width.
  int64_t first = k.w.pad[2] > 0 ? (k.w.pad[2] + stride - 1) / stride : 0, last = k.width - 1 + k.w.pad[2] - reach;
  last = last < 0 ? 0 : last / stride + 1;
  if (last > count) last = count;
  if (first > last) first = last;
  for (int64_t n = 0; n < count;) {
    const int64_t step = n >= first && n + 4 <= last ? 4 : 1;
    const Inside j(k.w.source(2, n, 0), k.w.dilation[2], taps, k.width);
    for_lanes(k.channels, [&](int64_t channel, int lanes) {
      if (step == 4) results<4>(k, row, i, j, n, channel, lanes, y, y_step);
      else results<1>(k, row, i, j, n, channel, lanes, y, y_step);
    });
    n += step;
  }
}

int64_t rows_at_a_time(int64_t work) { return 16384 / (work + 1) + 1; }

/// Gradient of the positions of one class per axis.
void input_grad_class(const DepthwiseInputGrad& k, const GradientClass& v, const GradientClass& u) {
  const int64_t p = k.dy.dim(1), q = k.dy.dim(2), c = k.dx.dim(3), h = k.dx.dim(1), width = k.dx.dim(2);
  Plane plane{};
  plane.w.size[1] = v.taps, plane.w.stride[1] = 1, plane.w.dilation[1] = v.dilation, plane.w.pad[1] = v.pad;
  plane.w.size[2] = u.taps, plane.w.stride[2] = 1, plane.w.dilation[2] = u.dilation, plane.w.pad[2] = u.pad;
  plane.height = p, plane.width = q, plane.channels = c;
  plane.tap_w = -u.tap_step * c;
  plane.tap_h = -v.tap_step * k.filter.dim(1) * c;
  plane.filter = k.filter.f32() + (v.last * k.filter.dim(1) + u.last) * c;
  parallel_ranges(k.dx.dim(0) * v.count, rows_at_a_time(u.count * c * v.taps * u.taps), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const int64_t b = r / v.count, row = r % v.count;
      Plane here = plane;
      here.x = k.dy.f32() + b * p * q * c;
      convolve_row(here, row, u.count, k.dx.f32() + ((b * h + v.first + row * v.step) * width + u.first) * c, u.step * c);
    }
  });
}

/// Adds the products of x and one row of dy to the sums of the taps (a, from) .. (a, from + N - 1).
template <int N>
SIMMIM_INLINE void filter_taps(const Window& w, const float* x, int64_t width, int64_t c, const float* dy, int64_t q, int64_t from, float* sums) {
  for_lanes(c, [&](int64_t channel, int lanes) {
    Vec s[N];
    for (int t = 0; t < N; t++) s[t] = load_lanes(sums + t * c + channel, lanes);
    const auto add = [&](int64_t n, bool all) {
      const Vec d = load_lanes(dy + n * c + channel, lanes);
#pragma GCC unroll 4
      for (int t = 0; t < N; t++) {
        const int64_t at = w.source(2, n, from + t);
        if (all || (at >= 0 && at < width)) s[t] = fma(load_lanes(x + at * c + channel, lanes), d, s[t]);
      }
    };
    int64_t n = 0;
    for (; n < q && w.source(2, n, from) < 0; n++) add(n, false);
    for (; n < q && w.source(2, n, from + N - 1) < width; n++) add(n, true);
    for (; n < q; n++) add(n, false);
    for (int t = 0; t < N; t++) store_lanes(sums + t * c + channel, s[t], lanes);
  });
}

}  // namespace

void run(const Depthwise& k) {
  const int64_t p = k.y.dim(1), q = k.y.dim(2), h = k.x.dim(1), width = k.x.dim(2), c = k.x.dim(3);
  Plane plane{window_of(k.window), k.x.f32(), h, width, c, k.filter.f32(), k.filter.dim(1) * c, c, k.bias.present() ? k.bias.f32() : nullptr};
  parallel_ranges(k.y.dim(0) * p, rows_at_a_time(q * c * plane.w.taps()), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      Plane here = plane;
      here.x += r / p * h * width * c;
      convolve_row(here, r % p, q, k.y.f32() + r * q * c, c);
    }
    if (k.activation != kNoActivation) run(activation_of(k.y.f32() + begin * q * c, (end - begin) * q * c, k.activation, k.alpha));
  });
}

void run(const DepthwiseInputGrad& k) {
  const Window w = window_of(k.window);
  const int64_t h = k.dx.dim(1), width = k.dx.dim(2);
  for (int64_t i = 0; i < gradient_classes(w, 1, h); i++)
    for (int64_t j = 0; j < gradient_classes(w, 2, width); j++) input_grad_class(k, gradient_class(w, 1, i, h), gradient_class(w, 2, j, width));
}

void run(const DepthwiseFilterGrad& k) {
  const Window w = window_of(k.window);
  const int64_t p = k.dy.dim(1), q = k.dy.dim(2), h = k.x.dim(1), width = k.x.dim(2), c = k.x.dim(3), kh = k.dfilter.dim(0), kw = k.dfilter.dim(1);
  const int64_t rows = k.dy.dim(0) * p, pieces = k.pieces(), each = pieces > 0 ? (rows + pieces - 1) / pieces : 0;
  float* partials = static_cast<float*>(k.workspace);
  parallel_for(pieces, [&](int64_t piece) {
    float* sums = partials + piece * kh * kw * c;
    __builtin_memset(sums, 0, static_cast<size_t>(kh * kw * c) * 4);
    for (int64_t r = piece * each; r < (piece + 1) * each && r < rows; r++)
      for (int64_t i = 0; i < kh; i++) {
        const int64_t y = w.source(1, r % p, i);
        if (y < 0 || y >= h) continue;
        const float *x = k.x.f32() + (r / p * h + y) * width * c, *dy = k.dy.f32() + r * q * c;
        for (int64_t j = 0; j < kw;) {
          float* to = sums + (i * kw + j) * c;
          if (j + 3 <= kw) filter_taps<3>(w, x, width, c, dy, q, j, to), j += 3;
          else filter_taps<1>(w, x, width, c, dy, q, j, to), j += 1;
        }
      }
  });
  combine_column_sums(partials, pieces, k.dfilter.count(), k.dfilter.f32(), false);
}

}  // namespace simmim::SIMMIM_ISA
