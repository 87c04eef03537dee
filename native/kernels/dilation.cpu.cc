#include "dilation.h"

#include "../cpu/column_sums.h"
#include "../cpu/thread_pool.h"

namespace simmim::SIMMIM_ISA {

namespace {

constexpr int64_t kBand = WindowPieces::kBand;

/// The largest sum of x and filter in the window at `at`, for `n` channels from `first` of a sample, with its position and tap
/// (-1 for none) where asked for.
template <bool Places>
SIMMIM_INLINE void find_largest(const float* x, const Tensor& filter, const Shape& shape, const Window& w, const int64_t* at, int64_t first, int64_t n, float* best, int32_t* position, int32_t* tap) {
  const int64_t c = shape.dims[4];
  for (int64_t t = 0; t < n; t++) {
    best[t] = Dilation::kNothing;
    if constexpr (Places) position[t] = tap[t] = -1;
  }
  each_in_window(shape, w, at, Inside(shape, w, at), [&](int64_t here, int64_t number) {
    const float *values = x + here * c + first, *weights = filter.f32() + number * c + first;
    for (int64_t t = 0; t < n; t++) {
      const float sum = values[t] + weights[t];
      const bool larger = sum > best[t];
      best[t] = larger ? sum : best[t];
      if constexpr (Places) {
        position[t] = larger ? static_cast<int32_t>(here) : position[t];
        tap[t] = larger ? static_cast<int32_t>(number) : tap[t];
      }
    }
  });
}

/// Calls f(position along the three axes, number of the result) for the rows [begin, end) of y [B, P, Q, R, C].
template <class F>
SIMMIM_INLINE void each_result(const Shape& y, int64_t begin, int64_t end, const F& f) {
  for (int64_t row = begin; row < end; row++) {
    int64_t at[3] = {row / y.dims[2] % y.dims[1], row % y.dims[2], 0};
    for (; at[2] < y.dims[3]; at[2]++) f(at, row / (y.dims[1] * y.dims[2]), row * y.dims[3] + at[2]);
  }
}

/// What the window at `at` adds to the piece.
void add_window(const DilationInputGrad& k, const Window& w, const WindowPiece& p, const int64_t* at, const float* dy) {
  const Shape& x = k.x.shape;
  const int64_t c = x.dims[4], sample = x.span(1, 5);
  float best[kBand], *dx = k.dx.f32() + p.b * sample + p.first;
  int32_t position[kBand], tap[kBand];
  find_largest<true>(k.x.f32() + p.b * sample, k.filter, x, w, at, p.first, p.n, best, position, tap);
  int64_t corner[3];
  for (int i = 0; i < 3; i++) corner[i] = w.source(i, at[i], 0) < 0 ? 0 : w.source(i, at[i], 0);
  const bool inside = corner[0] < x.dims[1] && corner[1] < x.dims[2] && corner[2] < x.dims[3];
  const int64_t none = inside ? (corner[0] * x.dims[2] + corner[1]) * x.dims[3] + corner[2] : -1;
  for (int64_t t = 0; t < p.n; t++) {
    const int64_t to = position[t] < 0 ? none : position[t];
    if (to >= 0 && is_in_piece(x, p, to)) dx[to * c + t] += dy[t];
  }
}

}  // namespace

void run(const Dilation& k) {
  const Window w = window_of(k.window);
  const int64_t c = k.x.dim(4), sample = k.x.shape.span(1, 5);
  parallel_ranges(k.y.shape.span(0, 3), 16384 / (k.y.dim(3) * c * w.taps() + 1) + 1, [&](int64_t begin, int64_t end) {
    each_result(k.y.shape, begin, end, [&](const int64_t* at, int64_t b, int64_t n) {
      for (int64_t first = 0; first < c; first += kBand) {
        const int64_t width = c - first < kBand ? c - first : kBand;
        find_largest<false>(k.x.f32() + b * sample, k.filter, k.x.shape, w, at, first, width, k.y.f32() + n * c + first, nullptr, nullptr);
      }
    });
  });
}

void run(const DilationInputGrad& k) {
  if (k.dx.count() == 0) return;
  const Window w = window_of(k.window);
  const WindowPieces pieces(k.x.shape, w);
  parallel_for(pieces.count(), [&](int64_t item) {
    const WindowPiece p = pieces[item];
    clear_piece(k.dx.f32(), k.x.shape, p);
    each_reaching_line(k.dy.shape, w, p, [&](int64_t* at, int64_t n) {
      for (at[2] = 0; at[2] < k.dy.dim(3); at[2]++) add_window(k, w, p, at, k.dy.f32() + (n + at[2]) * k.dy.dim(4) + p.first);
    });
  });
}

void run(const DilationFilterGrad& k) {
  const Window w = window_of(k.window);
  const Shape& y = k.dy.shape;
  const int64_t c = k.x.dim(4), sample = k.x.shape.span(1, 5), rows = y.span(0, 3), pieces = k.pieces(), each = pieces > 0 ? (rows + pieces - 1) / pieces : 0;
  float* partials = static_cast<float*>(k.workspace);
  parallel_for(pieces, [&](int64_t piece) {
    float* sums = partials + piece * k.dfilter.count();
    __builtin_memset(sums, 0, static_cast<size_t>(k.dfilter.count()) * 4);
    each_result(y, piece * each < rows ? piece * each : rows, (piece + 1) * each < rows ? (piece + 1) * each : rows, [&](const int64_t* at, int64_t b, int64_t n) {
      for (int64_t first = 0; first < c; first += kBand) {
        const int64_t width = c - first < kBand ? c - first : kBand;
        float best[kBand];
        int32_t position[kBand], tap[kBand];
        find_largest<true>(k.x.f32() + b * sample, k.filter, k.x.shape, w, at, first, width, best, position, tap);
        for (int64_t t = 0; t < width; t++) sums[(tap[t] < 0 ? 0 : tap[t]) * c + first + t] += k.dy.f32()[n * c + first + t];
      }
    });
  });
  combine_column_sums(partials, pieces, k.dfilter.count(), k.dfilter.f32(), false);
}

}  // namespace simmim::SIMMIM_ISA
