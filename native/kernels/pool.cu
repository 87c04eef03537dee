#include "pool.h"

#include "window.cuh"

namespace simmim::cuda {

namespace {

SIMMIM_DEVICE void start_below(float* v) { *v = -__builtin_inff(); }
SIMMIM_DEVICE void start_below(int32_t* v) { *v = -2147483647 - 1; }

/// What a window slides over, and what it makes of it.
struct Sliding {
  Window w;
  Volume x, y;
  Sliding(const Ints& window, const Shape& of, const Shape& to) : w(window_of(window)), x(of), y(to) {}
  /// The largest value of the window behind result p, and the number of its position in the sample, -1 where none is larger than
  /// what it starts with; NaN never is.
  template <class T>
  SIMMIM_DEVICE int64_t find_largest(const T* values, const Place& p, bool last, T* best) const {
    int64_t where = -1;
    start_below(best);
    each_tap(w, x, p.at, [&](int64_t position, int64_t) {
      const T v = values[x.value(p, position)];
      if (last ? v >= *best : v > *best) {
        *best = v;
        where = position;
      }
    });
    return where;
  }
};

template <class T>
struct Largest {
  Sliding window;
  const T* x;
  T* y;
  int32_t* positions;
  bool batch_positions;
  __device__ void operator()(int64_t i) const {
    const Place p = window.y.place(i);
    T best;
    const int64_t where = window.find_largest(x, p, false, &best);
    y[i] = best;
    if (!positions) return;
    const int64_t before = batch_positions ? p.b * window.x.positions : 0;
    positions[i] = where < 0 ? -1 : static_cast<int32_t>((before + where) * window.x.channels + p.c);
  }
};

struct Mean {
  Sliding window;
  const float* x;
  float* y;
  float none;
  __device__ void operator()(int64_t i) const {
    const Place p = window.y.place(i);
    float sum = 0, inside = 0;
    each_tap(window.w, window.x, p.at, [&](int64_t position, int64_t) {
      sum += x[window.x.value(p, position)];
      inside += 1;
    });
    y[i] = inside > 0 ? sum / inside : none;
  }
};

/// The position that each result came from, in its sample.
struct FindPositions {
  Sliding window;
  const float* x;
  int32_t* positions;
  bool last;
  __device__ void operator()(int64_t i) const {
    float best;
    positions[i] = static_cast<int32_t>(window.find_largest(x, window.y.place(i), last, &best));
  }
};

/// The gradients of the results that came from this position.
struct GatherLargest {
  Sliding window;
  const int32_t* positions;
  const float* dy;
  float* dx;
  __device__ void operator()(int64_t i) const {
    const Place p = window.x.place(i);
    const int32_t own = static_cast<int32_t>(window.x.number(p.at));
    float sum = 0;
    each_spanning(window.w, window.y, p.at, [&](int64_t result, int64_t) {
      const int64_t n = window.y.value(p, result);
      if (positions[n] == own) sum += dy[n];
    });
    dx[i] = sum;
  }
};

struct GatherShares {
  Sliding window;
  const float* dy;
  float* dx;
  float share;
  __device__ void operator()(int64_t i) const {
    const Place p = window.x.place(i);
    float sum = 0;
    each_spanning(window.w, window.y, p.at, [&](int64_t result, int64_t tap) {
      if (tap >= 0) sum += dy[window.y.value(p, result)];
    });
    dx[i] = sum * share;
  }
};

template <class T>
void pool_largest(const Pool& k, Stream& stream) {
  for_each(stream, k.y.count(), Largest<T>{Sliding(k.window, k.x.shape, k.y.shape), k.x.as<T>(), k.y.as<T>(), k.positions.i32(), k.batch_positions});
}

}  // namespace

void run(const Pool& k, Stream& stream) {
  if (k.average) for_each(stream, k.y.count(), Mean{Sliding(k.window, k.x.shape, k.y.shape), k.x.f32(), k.y.f32(), k.none});
  else if (k.x.dtype == DType::f32) pool_largest<float>(k, stream);
  else pool_largest<int32_t>(k, stream);
}

void run(const PoolGrad& k, Stream& stream) {
  const Sliding window(k.window, k.dx.shape, k.dy.shape);
  const int64_t count = k.dx.count();
  if (k.average) return for_each(stream, count, GatherShares{window, k.dy.f32(), k.dx.f32(), 1.0f / static_cast<float>(window.w.taps())});
  auto* positions = static_cast<int32_t*>(k.workspace);
  for_each(stream, k.dy.count(), FindPositions{window, k.x.f32(), positions, k.last});
  for_each(stream, count, GatherLargest{window, positions, k.dy.f32(), k.dx.f32()});
}

}  // namespace simmim::cuda
