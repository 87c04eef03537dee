#include "dilation.h"

#include "../cuda/gemm.h"
#include "window.cuh"

namespace simmim::cuda {

namespace {

/// The filter over a sample, as one thread finds the largest sum of a window.
struct Dilating {
  Window w;
  Volume x, y;
  const float *values, *filter;
  Dilating(const Ints& window, const Tensor& of, const Tensor& weights, const Shape& to) : w(window_of(window)), x(of.shape), y(to), values(of.f32()), filter(weights.f32()) {}
  struct Found {
    float best;
    int64_t position, tap;  // -1 where nothing is larger
  };
  SIMMIM_DEVICE Found find(const Place& p) const {
    Found found{Dilation::kNothing, -1, -1};
    each_tap(w, x, p.at, [&](int64_t position, int64_t tap) {
      const float sum = values[x.value(p, position)] + filter[tap * x.channels + p.c];
      if (sum > found.best) found = {sum, position, tap};
    });
    return found;
  }
  /// The first position inside x, from the window's first tap on; -1 where that lies behind x.
  SIMMIM_DEVICE int64_t corner(const Place& p) const {
    int64_t at[3];
    for (int i = 0; i < 3; i++) {
      const int64_t first = w.source(i, p.at[i], 0);
      at[i] = first < 0 ? 0 : first;
      if (at[i] >= x.size[i]) return -1;
    }
    return x.number(at);
  }
};

struct Dilate {
  Dilating window;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = window.find(window.y.place(i)).best; }
};

/// The position, in its sample, that each result's gradient goes to.
struct FindPositions {
  Dilating window;
  int32_t* positions;
  __device__ void operator()(int64_t i) const {
    const Place p = window.y.place(i);
    const int64_t position = window.find(p).position;
    positions[i] = static_cast<int32_t>(position < 0 ? window.corner(p) : position);
  }
};
struct GatherPositions {
  Window w;
  Volume x, y;
  const int32_t* positions;
  const float* dy;
  float* dx;
  __device__ void operator()(int64_t i) const {
    const Place p = x.place(i);
    const int32_t own = static_cast<int32_t>(x.number(p.at));
    float sum = 0;
    each_spanning(w, y, p.at, [&](int64_t result, int64_t) {
      const int64_t n = y.value(p, result);
      if (positions[n] == own) sum += dy[n];
    });
    dx[i] = sum;
  }
};

struct FindTaps {
  Dilating window;
  int32_t* taps;
  __device__ void operator()(int64_t i) const {
    const int64_t tap = window.find(window.y.place(i)).tap;
    taps[i] = static_cast<int32_t>(tap < 0 ? 0 : tap);
  }
};
/// One tap and channel over one piece of the positions of dy.
struct SumTaps {
  const int32_t* taps;
  const float* dy;
  float* partials;                    // [pieces, taps, C]
  int64_t positions, piece, channels;  // positions of the batch, and of a piece
  Coordinates<3> items;               // piece, tap, channel
  __device__ void operator()(int64_t item) const {
    int64_t at[3];
    items.find(item, at);
    const int64_t begin = at[0] * piece, end = begin + piece < positions ? begin + piece : positions;
    float sum = 0;
    for (int64_t n = begin * channels + at[2]; n < end * channels; n += channels)
      if (taps[n] == at[1]) sum += dy[n];
    partials[item] = sum;
  }
};

}  // namespace

void run(const Dilation& k, Stream& stream) { for_each(stream, k.y.count(), Dilate{Dilating(k.window, k.x, k.filter, k.y.shape), k.y.f32()}); }

void run(const DilationInputGrad& k, Stream& stream) {
  const Dilating window(k.window, k.x, k.filter, k.dy.shape);
  auto* positions = static_cast<int32_t*>(k.workspace);
  for_each(stream, k.dy.count(), FindPositions{window, positions});
  for_each(stream, k.dx.count(), GatherPositions{window.w, window.x, window.y, positions, k.dy.f32(), k.dx.f32()});
}

void run(const DilationFilterGrad& k, Stream& stream) {
  const Dilating window(k.window, k.x, k.filter, k.dy.shape);
  const int64_t positions = k.dy.shape.span(0, 4), channels = k.dy.dim(4), taps = window.w.taps(), pieces = position_pieces(positions);
  auto* numbers = static_cast<int32_t*>(k.workspace);
  auto* partials = reinterpret_cast<float*>(numbers + k.dy.count());
  const int64_t piece = pieces > 0 ? (positions + pieces - 1) / pieces : 0;
  for_each(stream, k.dy.count(), FindTaps{window, numbers});
  for_each(stream, pieces * taps * channels, SumTaps{numbers, k.dy.f32(), partials, positions, piece, channels, Coordinates<3>({pieces, taps, channels})});
  combine_row_sums(partials, pieces, taps * channels, k.dfilter.f32(), false, stream);
}

}  // namespace simmim::cuda
