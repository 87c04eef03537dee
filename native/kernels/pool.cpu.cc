#include "pool.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

namespace {

constexpr int64_t kBand = WindowPieces::kBand;

template <class T>
constexpr T lowest() {
  if constexpr (__is_same(T, float)) return -__builtin_inff();
  else return -2147483647 - 1;
}

/// The largest of x [positions, C] in a window for `n` channels from `first`, and where.
template <class T, bool Last>
SIMMIM_INLINE void find_largest(const T* x, int64_t c, const Shape& shape, const Window& w, const int64_t* at, const Inside& in, int64_t n, T* best, int32_t* where) {
  for (int64_t t = 0; t < n; t++) best[t] = lowest<T>(), where[t] = -1;
  each_in_window(shape, w, at, in, [&](int64_t position, int64_t) {
    const T* here = x + position * c;
    const int32_t p = static_cast<int32_t>(position);
    for (int64_t t = 0; t < n; t++) {
      const bool better = Last ? here[t] >= best[t] : here[t] > best[t];
      best[t] = better ? here[t] : best[t];
      where[t] = better ? p : where[t];
    }
  });
}

/// One result of `n` channels from `first`: the sample starts at x, the results at y.
template <class T>
SIMMIM_INLINE void largest(const Pool& k, const Window& w, const int64_t* at, const Inside& in, int64_t b, const T* x, T* y, int32_t* positions, int64_t first, int64_t n) {
  const Shape& shape = k.x.shape;
  const int64_t c = shape.dims[4];
  T best[kBand];
  if (positions) {
    int32_t where[kBand];
    find_largest<T, false>(x + first, c, shape, w, at, in, n, best, where);
    const int64_t start = k.batch_positions ? b * shape.span(1, 4) : 0;
    for (int64_t t = 0; t < n; t++) positions[first + t] = where[t] < 0 ? -1 : static_cast<int32_t>((start + where[t]) * c + first + t);
  } else {
    for (int64_t t = 0; t < n; t++) best[t] = lowest<T>();
    each_in_window(shape, w, at, in, [&](int64_t position, int64_t) {
      const T* here = x + position * c + first;
      for (int64_t t = 0; t < n; t++) best[t] = here[t] > best[t] ? here[t] : best[t];
    });
  }
  for (int64_t t = 0; t < n; t++) y[first + t] = best[t];
}

SIMMIM_INLINE void mean(const Pool& k, const Window& w, const int64_t* at, const Inside& in, const float* x, float* y, int64_t first, int64_t n) {
  float sums[kBand];
  for (int64_t t = 0; t < n; t++) sums[t] = 0;
  each_in_window(k.x.shape, w, at, in, [&](int64_t position, int64_t) {
    const float* here = x + position * k.x.dim(4) + first;
    for (int64_t t = 0; t < n; t++) sums[t] += here[t];
  });
  const int64_t inside = in.count();
  const float scale = 1.0f / static_cast<float>(inside);
  for (int64_t t = 0; t < n; t++) y[first + t] = inside > 0 ? sums[t] * scale : k.none;
}

template <class T>
void pool(const Pool& k) {
  const Window w = window_of(k.window);
  const Shape& y = k.y.shape;
  const int64_t c = y.dims[4], line = y.dims[3], sample = k.x.shape.span(1, 5);
  parallel_ranges(y.span(0, 3), 16384 / (line * c * w.taps() + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const int64_t b = row / (y.dims[1] * y.dims[2]);
      int64_t at[3] = {row / y.dims[2] % y.dims[1], row % y.dims[2], 0};
      const T* x = k.x.as<T>() + b * sample;
      for (; at[2] < line; at[2]++) {
        const Inside in(k.x.shape, w, at);
        const int64_t out = (row * line + at[2]) * c;
        for (int64_t first = 0; first < c; first += kBand) {
          const int64_t n = c - first < kBand ? c - first : kBand;
          if constexpr (__is_same(T, float))
            if (k.average) {
              mean(k, w, at, in, x, k.y.f32() + out, first, n);
              continue;
            }
          largest<T>(k, w, at, in, b, x, k.y.as<T>() + out, k.positions.present() ? k.positions.i32() + out : nullptr, first, n);
        }
      }
    }
  });
}

/// What one window adds to the piece.
void add_window(const PoolGrad& k, const Window& w, const WindowPiece& p, const int64_t* at, const float* dy, float share) {
  const Shape& x = k.dx.shape;
  const int64_t c = x.dims[4], sample = p.b * x.span(1, 5);
  float* dx = k.dx.f32() + sample + p.first;
  const Inside whole(x, w, at);
  if (k.average) {
    Inside in = whole;
    while (in.begin[p.axis] < in.end[p.axis] && w.source(p.axis, at[p.axis], in.begin[p.axis]) < p.from) in.begin[p.axis]++;
    while (in.begin[p.axis] < in.end[p.axis] && w.source(p.axis, at[p.axis], in.end[p.axis] - 1) >= p.to) in.end[p.axis]--;
    each_in_window(x, w, at, in, [&](int64_t position, int64_t) {
      float* to = dx + position * c;
      for (int64_t t = 0; t < p.n; t++) to[t] += dy[t] * share;
    });
    return;
  }
  float best[kBand];
  int32_t where[kBand];
  if (k.last) find_largest<float, true>(k.x.f32() + sample + p.first, c, x, w, at, whole, p.n, best, where);
  else find_largest<float, false>(k.x.f32() + sample + p.first, c, x, w, at, whole, p.n, best, where);
  for (int64_t t = 0; t < p.n; t++)
    if (where[t] >= 0 && is_in_piece(x, p, where[t])) dx[where[t] * c + t] += dy[t];
}

}  // namespace

void run(const Pool& k) {
  if (k.y.count() == 0) return;
  if (k.x.dtype == DType::f32) pool<float>(k);
  else pool<int32_t>(k);
}

void run(const PoolGrad& k) {
  if (k.dx.count() == 0) return;
  const Window w = window_of(k.window);
  const WindowPieces pieces(k.dx.shape, w);
  const float share = 1.0f / static_cast<float>(w.taps());
  parallel_for(pieces.count(), [&](int64_t item) {
    const WindowPiece p = pieces[item];
    clear_piece(k.dx.f32(), k.dx.shape, p);
    each_reaching_window(k.dy.shape, w, p, [&](const int64_t* at, int64_t n) { add_window(k, w, p, at, k.dy.f32() + n * k.dy.dim(4) + p.first, share); });
  });
}

}  // namespace simmim::SIMMIM_ISA
