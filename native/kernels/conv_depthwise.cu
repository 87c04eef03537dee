#include "conv_depthwise.h"

#include "../cuda/gemm.h"
#include "window.cuh"

namespace simmim::cuda {

void run(const Unary& k, Stream& stream);

namespace {

struct Convolve {
  Window w;
  Volume x, y;
  const float *values, *filter, *bias;
  float* results;
  __device__ void operator()(int64_t i) const {
    const Place p = y.place(i);
    float sum = bias ? bias[p.c] : 0;
    each_tap(w, x, p.at, [&](int64_t position, int64_t tap) { sum = fmaf(values[x.value(p, position)], filter[tap * x.channels + p.c], sum); });
    results[i] = sum;
  }
};

struct GatherGradient {
  Window w;
  Volume x, y;
  const float *dy, *filter;
  float* dx;
  __device__ void operator()(int64_t i) const {
    const Place p = x.place(i);
    float sum = 0;
    each_spanning(w, y, p.at, [&](int64_t result, int64_t tap) {
      if (tap >= 0) sum = fmaf(dy[y.value(p, result)], filter[tap * x.channels + p.c], sum);
    });
    dx[i] = sum;
  }
};

/// One tap and channel over one piece of the positions of dy.
struct SumTaps {
  Window w;
  Volume x, y;
  const float *values, *dy;
  float* partials;           // [pieces, KH, KW, C]
  int64_t positions, piece;  // positions of the batch, and of a piece
  Coordinates<4> items;      // piece, tap along height and width, channel
  __device__ void operator()(int64_t item) const {
    int64_t at[4];
    items.find(item, at);
    const int64_t begin = at[0] * piece, end = begin + piece < positions ? begin + piece : positions;
    float sum = 0;
    Place p = begin < end ? y.place(begin * y.channels + at[3]) : Place{};
    for (int64_t n = begin; n < end; n++) {
      const int64_t from[3] = {0, w.source(1, p.at[1], at[1]), w.source(2, p.at[2], at[2])};
      if (from[1] >= 0 && from[1] < x.size[1] && from[2] >= 0 && from[2] < x.size[2]) sum = fmaf(values[x.value(p, x.number(from))], dy[n * y.channels + p.c], sum);
      if (++p.at[2] < y.size[2]) continue;
      p.at[2] = 0;
      if (++p.at[1] < y.size[1]) continue;
      p.at[1] = 0;
      p.b++;
    }
    partials[item] = sum;
  }
};

}  // namespace

void run(const Depthwise& k, Stream& stream) {
  const int64_t count = k.y.count();
  if (count == 0) return;
  for_each(stream, count, Convolve{window_of(k.window), Volume(k.x.shape), Volume(k.y.shape), k.x.f32(), k.filter.f32(), k.bias.f32(), k.y.f32()});
  if (k.activation != kNoActivation) run(activation_of(k.y.f32(), count, k.activation, k.alpha), stream);
}

void run(const DepthwiseInputGrad& k, Stream& stream) {
  for_each(stream, k.dx.count(), GatherGradient{window_of(k.window), Volume(k.dx.shape), Volume(k.dy.shape), k.dy.f32(), k.filter.f32(), k.dx.f32()});
}

void run(const DepthwiseFilterGrad& k, Stream& stream) {
  const int64_t positions = k.dy.shape.span(0, 3), channels = k.dy.dim(3), kh = k.dfilter.dim(0), kw = k.dfilter.dim(1), pieces = position_pieces(positions);
  const int64_t piece = pieces > 0 ? (positions + pieces - 1) / pieces : 0;
  auto* partials = static_cast<float*>(k.workspace);
  const SumTaps sums{window_of(k.window), Volume(k.x.shape), Volume(k.dy.shape), k.x.f32(), k.dy.f32(), partials, positions, piece, Coordinates<4>({pieces, kh, kw, channels})};
  for_each(stream, pieces * kh * kw * channels, sums);
  combine_row_sums(partials, pieces, kh * kw * channels, k.dfilter.f32(), false, stream);
}

}  // namespace simmim::cuda
