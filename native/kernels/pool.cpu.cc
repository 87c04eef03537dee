#include "pool.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

namespace {

/// Calls f(offset of the first channel in x) for every position of the window of y at (p, q, r) that lies inside x.
template <class F>
SIMMIM_INLINE void each_in_window(const Shape& x, const PoolWindow& w, int64_t b, int64_t p, int64_t q, int64_t r, const F& f) {
  for (int64_t i = 0; i < w.size[0]; i++) {
    const int64_t d = p * w.stride[0] + i * w.dilation[0] - w.pad[0];
    if (d < 0 || d >= x.dims[1]) continue;
    for (int64_t j = 0; j < w.size[1]; j++) {
      const int64_t h = q * w.stride[1] + j * w.dilation[1] - w.pad[1];
      if (h < 0 || h >= x.dims[2]) continue;
      for (int64_t k = 0; k < w.size[2]; k++) {
        const int64_t l = r * w.stride[2] + k * w.dilation[2] - w.pad[2];
        if (l >= 0 && l < x.dims[3]) f((((b * x.dims[1] + d) * x.dims[2] + h) * x.dims[3] + l) * x.dims[4]);
      }
    }
  }
}

constexpr int64_t kBand = 64;

/// Gradients of `n` channels from `first` of one sample.
void grad_band(const PoolGrad& k, const PoolWindow& w, int64_t b, int64_t first, int64_t n) {
  const Shape &x = k.dx.shape, &y = k.dy.shape;
  const int64_t c = x.dims[4], positions = x.span(1, 4);
  float* dx = k.dx.f32() + first;
  for (int64_t i = 0; i < positions; i++)
    for (int64_t t = 0; t < n; t++) dx[(b * positions + i) * c + t] = 0;
  const float share = 1.0f / static_cast<float>(w.size[0] * w.size[1] * w.size[2]);
  int64_t at = b * y.span(1, 4) * c + first;
  for (int64_t p = 0; p < y.dims[1]; p++)
    for (int64_t q = 0; q < y.dims[2]; q++)
      for (int64_t r = 0; r < y.dims[3]; r++, at += c) {
        const float* dy = k.dy.f32() + at;
        if (k.average) {
          each_in_window(x, w, b, p, q, r, [&](int64_t from) {
            for (int64_t t = 0; t < n; t++) dx[from + t] += dy[t] * share;
          });
          continue;
        }
        float best[kBand];
        int64_t where[kBand];
        for (int64_t t = 0; t < n; t++) best[t] = -__builtin_inff(), where[t] = -1;
        const float* values = k.x.f32() + first;
        each_in_window(x, w, b, p, q, r, [&](int64_t from) {
          for (int64_t t = 0; t < n; t++) {
            const bool better = values[from + t] > best[t];
            best[t] = better ? values[from + t] : best[t];
            where[t] = better ? from : where[t];
          }
        });
        for (int64_t t = 0; t < n; t++)
          if (where[t] >= 0) dx[where[t] + t] += dy[t];
      }
}

}  // namespace

void run(const Pool& k) {
  const PoolWindow w = pool_window(k.window);
  const Shape& y = k.y.shape;
  const int64_t c = y.dims[4], line = y.dims[3];
  parallel_ranges(y.span(0, 3), 8192 / (line * c * w.size[0] * w.size[1] * w.size[2] + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const int64_t b = row / (y.dims[1] * y.dims[2]), p = row / y.dims[2] % y.dims[1], q = row % y.dims[2];
      for (int64_t r = 0; r < line; r++) {
        float* out = k.y.f32() + (row * line + r) * c;
        const float start = k.average ? 0 : -__builtin_inff();
        for (int64_t t = 0; t < c; t++) out[t] = start;
        int64_t inside = 0;
        each_in_window(k.x.shape, w, b, p, q, r, [&](int64_t from) {
          const float* x = k.x.f32() + from;
          inside++;
          if (k.average)
            for (int64_t t = 0; t < c; t++) out[t] += x[t];
          else
            for (int64_t t = 0; t < c; t++) out[t] = x[t] > out[t] ? x[t] : out[t];
        });
        if (!k.average) continue;
        const float scale = 1.0f / static_cast<float>(inside > 0 ? inside : 1);
        for (int64_t t = 0; t < c; t++) out[t] *= scale;
      }
    }
  });
}

void run(const PoolGrad& k) {
  const PoolWindow w = pool_window(k.window);
  const int64_t c = k.dx.dim(4), bands = (c + kBand - 1) / kBand;
  parallel_for(k.dx.dim(0) * bands, [&](int64_t item) {
    const int64_t first = item % bands * kBand;
    grad_band(k, w, item / bands, first, c - first < kBand ? c - first : kBand);
  });
}

}  // namespace simmim::SIMMIM_ISA
