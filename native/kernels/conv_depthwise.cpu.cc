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

/// For fewer channels than a register has lanes: every tap's weights repeated, so that neighbouring results find theirs in a row.
struct FlatFilter {
  static constexpr int64_t kMostTaps = 128, kPitch = 2 * kLanes;
  float taps[kMostTaps * kPitch], bias[kPitch];
  static SIMMIM_INLINE bool serves(const Plane& k, int64_t y_step) { return k.channels < kLanes && y_step == k.channels && k.w.size[1] * k.w.size[2] <= kMostTaps; }
  explicit FlatFilter(const Plane& k) {
    for (int64_t i = 0; i < k.w.size[1]; i++)
      for (int64_t j = 0; j < k.w.size[2]; j++)
        for (int64_t t = 0; t < kPitch; t++) taps[(i * k.w.size[2] + j) * kPitch + t] = k.filter[i * k.tap_h + j * k.tap_w + t % k.channels];
    for (int64_t t = 0; t < kPitch; t++) bias[t] = k.bias ? k.bias[t % k.channels] : 0;
  }
};

/// A row of `count` results whose registers run across positions.
void convolve_flat_row(const Plane& k, const FlatFilter& filter, int64_t row, int64_t count, float* y) {
  const int64_t c = k.channels, stride = k.w.stride[2], reach = (k.w.size[2] - 1) * k.w.dilation[2], values = k.width * c;
  const Inside i(k.w.source(1, row, 0), k.w.dilation[1], k.w.size[1], k.height);
  for_lanes(count * c, [&](int64_t o, int lanes) {
    const int64_t phase = o % c, first = k.w.source(2, o / c, 0), last = k.w.source(2, (o + lanes - 1) / c, 0) + reach;
    const bool plain = stride == 1 && first >= 0 && last < k.width;
    IVec column{}, at{};
    if (!plain)
      for (int l = 0; l < lanes; l++) {
        column[l] = static_cast<int32_t>(k.w.source(2, (o + l) / c, 0));
        at[l] = static_cast<int32_t>(column[l] * c + (o + l) % c);
      }
    Vec sum = load_lanes(filter.bias + phase, lanes);
    for (int64_t a = i.begin; a < i.end; a++) {
      const float* x = k.x + k.w.source(1, row, a) * values;
      for (int64_t b = 0; b < k.w.size[2]; b++) {
        const int32_t step = static_cast<int32_t>(b * k.w.dilation[2]);
        Vec v;
        if (plain) {
          v = load_lanes(x + o + (step - k.w.pad[2]) * c, lanes);
        } else {
          const IVec inside = (column + step >= 0) & (column + step < static_cast<int32_t>(k.width));
          v = select(inside, gather(x, inside ? at + step * static_cast<int32_t>(c) : IVec{}), Vec{});
        }
        sum = fma(v, load_lanes(filter.taps + (a * k.w.size[2] + b) * FlatFilter::kPitch + phase, lanes), sum);
      }
    }
    store_lanes(y + o, sum, lanes);
  });
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

/// The rows [B, rows] of results over planes [B, H, W, C] at x; row_at gives where a row of results begins, done(begin, end) is
/// called for rows that are finished.
template <class F, class G>
void convolve_planes(const Plane& plane, const float* x, int64_t batch, int64_t rows, int64_t count, int64_t y_step, const F& row_at, const G& done) {
  const int64_t grain = 16384 / (count * plane.channels * plane.w.size[1] * plane.w.size[2] + 1) + 1;
  const auto each_row = [&](const auto& convolve) {
    parallel_ranges(batch * rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; r++) {
        Plane here = plane;
        here.x = x + r / rows * plane.height * plane.width * plane.channels;
        convolve(here, r % rows, row_at(r / rows, r % rows));
      }
      done(begin, end);
    });
  };
  if (FlatFilter::serves(plane, y_step)) {
    const FlatFilter filter(plane);
    each_row([&](const Plane& here, int64_t row, float* y) { convolve_flat_row(here, filter, row, count, y); });
  } else {
    each_row([&](const Plane& here, int64_t row, float* y) { convolve_row(here, row, count, y, y_step); });
  }
}

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
  convolve_planes(plane, k.dy.f32(), k.dx.dim(0), v.count, u.count, u.step * c, [&](int64_t b, int64_t row) { return k.dx.f32() + ((b * h + v.first + row * v.step) * width + u.first) * c; }, [](int64_t, int64_t) {});
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
  const int64_t p = k.y.dim(1), q = k.y.dim(2), c = k.x.dim(3);
  if (k.y.count() == 0) return;
  const Plane plane{window_of(k.window), nullptr, k.x.dim(1), k.x.dim(2), c, k.filter.f32(), k.filter.dim(1) * c, c, k.bias.present() ? k.bias.f32() : nullptr};
  const auto activate = [&](int64_t begin, int64_t end) {
    if (k.activation != kNoActivation) run(activation_of(k.y.f32() + begin * q * c, (end - begin) * q * c, k.activation, k.alpha));
  };
  convolve_planes(plane, k.x.f32(), k.y.dim(0), p, q, c, [&](int64_t b, int64_t row) { return k.y.f32() + (b * p + row) * q * c; }, activate);
}

void run(const DepthwiseInputGrad& k) {
  const Window w = window_of(k.window);
  const int64_t h = k.dx.dim(1), width = k.dx.dim(2);
  if (k.dx.count() == 0) return;
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
