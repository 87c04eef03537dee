#include "conv.h"

#include "../cuda/gemm.h"
#include "../cuda/vec.cuh"
#include "window.cuh"

namespace simmim::cuda {

void run(const Unary& k, Stream& stream);

namespace {

/// Rows of the patch matrix [B P Q R, KD KH KW C] of x from row `first` on; T holds one or four channels.
template <class T>
struct LayOut {
  Window w;
  Volume x;  // channels in units of T
  const T* values;
  T* patches;
  int64_t first;
  Coordinates<4> rows;   // of the whole matrix: sample and position of the result
  Coordinates<5> items;  // of these rows: row, tap, channel
  __device__ void operator()(int64_t i) const {
    int64_t item[5], row[4], from[3];
    items.find(i, item);
    rows.find(first + item[0], row);
    bool inside = true;
    for (int axis = 0; axis < 3; axis++) {
      from[axis] = w.source(axis, row[1 + axis], item[1 + axis]);
      inside = inside && from[axis] >= 0 && from[axis] < x.size[axis];
    }
    patches[i] = inside ? values[(row[0] * x.positions + x.number(from)) * x.channels + item[4]] : T{};
  }
};

template <class T>
void lay_out_units(const Tensor& x, const Window& w, const Shape& y, int64_t first, int64_t rows, float* to, Stream& stream) {
  constexpr int64_t kUnit = sizeof(T) / sizeof(float);
  const int64_t channels = x.dim(4) / kUnit;
  const LayOut<T> body{w, Volume(x.shape, kUnit), x.as<T>(), reinterpret_cast<T*>(to), first, Coordinates<4>({y[0], y[1], y[2], y[3]}), Coordinates<5>({rows, w.size[0], w.size[1], w.size[2], channels})};
  for_each(stream, rows * w.taps() * channels, body);
}

/// Rows [first, first + rows) of the patches that the results y [B, P, Q, R, ...] read of x.
void lay_out(const Tensor& x, const Window& w, const Shape& y, int64_t first, int64_t rows, float* to, Stream& stream) {
  if (x.dim(4) % 4 == 0 && packs_allowed(x.f32(), to)) lay_out_units<float4>(x, w, y, first, rows, to, stream);
  else lay_out_units<float>(x, w, y, first, rows, to, stream);
}

/// The gradient of x from those of the patches: each value gathers those of the windows that read it.
struct Gather {
  Window w;
  Volume x, y;  // y: of the results, whatever its channels
  const float* patches;  // [B P Q R, taps, C], of the samples from the first on
  float* dx;
  int64_t taps;
  __device__ void operator()(int64_t i) const {
    const Place p = x.place(i);
    float sum = 0;
    each_spanning(w, y, p.at, [&](int64_t result, int64_t tap) {
      if (tap >= 0) sum += patches[((p.b * y.positions + result) * taps + tap) * x.channels + p.c];
    });
    dx[i] = sum;
  }
};

Gemm product(int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c) {
  Gemm g;
  g.m = m, g.n = n, g.k = k;
  g.a = a, g.lda = k;
  g.b = b, g.ldb = n;
  g.c = c, g.ldc = n;
  return g;
}

}  // namespace

void run(const Conv& k, Stream& stream) {
  const Window w = window_of(k.window);
  const int64_t rows = k.y.shape.span(0, 4), o = k.y.dim(4), width = k.width();
  if (rows == 0 || o == 0) return;
  const bool direct = is_pointwise(k.x, k.y, w);
  const int64_t most = direct ? rows : cuda_patch_rows(rows, width);
  auto* patches = static_cast<float*>(k.workspace);
  for (int64_t first = 0; first < rows; first += most) {
    const int64_t n = rows - first < most ? rows - first : most;
    if (!direct) lay_out(k.x, w, k.y.shape, first, n, patches, stream);
    Gemm g = product(n, o, width, direct ? k.x.f32() : patches, k.filter.f32(), k.y.f32() + first * o);
    g.bias = k.bias.f32();
    gemm(g, stream);
  }
  if (k.activation != kNoActivation) run(activation_of(k.y.f32(), rows * o, k.activation, k.alpha), stream);
}

void run(const ConvInputGrad& k, Stream& stream) {
  const Window w = window_of(k.window);
  const int64_t batch = k.dx.dim(0), positions = k.dy.shape.span(1, 4), o = k.dy.dim(4), c = k.dx.dim(4), width = w.taps() * c, most = k.cuda_samples();
  auto* patches = static_cast<float*>(k.workspace);
  for (int64_t first = 0; first < batch; first += most) {
    const int64_t samples = batch - first < most ? batch - first : most, sample = k.dx.shape.span(1, 5);
    Gemm g = product(samples * positions, width, o, k.dy.f32() + first * positions * o, k.filter.f32(), patches);
    g.ldb = o, g.transpose_b = true;
    gemm(g, stream);
    for_each(stream, samples * sample, Gather{w, Volume(k.dx.shape), Volume(k.dy.shape), patches, k.dx.f32() + first * sample, w.taps()});
  }
}

void run(const ConvFilterGrad& k, Stream& stream) {
  const Window w = window_of(k.window);
  const int64_t rows = k.dy.shape.span(0, 4), o = k.dy.dim(4), width = k.width();
  if (rows == 0) {
    if (k.dfilter.count() > 0) SIMMIM_CUDA_CALL(cudaMemsetAsync(k.dfilter.data, 0, k.dfilter.bytes(), stream.handle));
    return;
  }
  const bool direct = is_pointwise(k.x, k.dy, w);
  const int64_t most = direct ? rows : cuda_patch_rows(rows, width);
  auto* patches = static_cast<float*>(k.workspace);
  for (int64_t first = 0; first < rows; first += most) {
    const int64_t n = rows - first < most ? rows - first : most;
    if (!direct) lay_out(k.x, w, k.dy.shape, first, n, patches, stream);
    Gemm g = product(width, o, n, direct ? k.x.f32() : patches, k.dy.f32() + first * o, k.dfilter.f32());
    g.lda = width;
    g.transpose_a = true;
    g.accumulate = first > 0;
    gemm(g, stream);
  }
}

}  // namespace simmim::cuda
