#include "conv_depthwise.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

namespace {

/// y[c M + m] += x[c] w[c M + m]
SIMMIM_INLINE void multiply_add(float* y, const float* x, const float* w, int64_t channels, int64_t m) {
  if (m == 1) {
    for (int64_t c = 0; c < channels; c++) y[c] += x[c] * w[c];
    return;
  }
  for (int64_t c = 0; c < channels; c++)
    for (int64_t j = 0; j < m; j++) y[c * m + j] += x[c] * w[c * m + j];
}

}  // namespace

void run(const Depthwise& k) {
  const ConvWindow w = conv_window(k.window);
  const int64_t p = k.y.dim(1), q = k.y.dim(2), h = k.x.dim(1), width = k.x.dim(2), c = k.x.dim(3), m = k.filter.dim(3), kh = k.filter.dim(0), kw = k.filter.dim(1), o = c * m;
  parallel_ranges(k.y.dim(0) * p, 8192 / (q * o * kh * kw + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      float* line = k.y.f32() + r * q * o;
      __builtin_memset(line, 0, static_cast<size_t>(q * o) * 4);
      for (int64_t n = 0; n < q; n++)
        for (int64_t i = 0; i < kh; i++) {
          const int64_t y = r % p * w.stride_h + i * w.dilation_h - w.top;
          if (y < 0 || y >= h) continue;
          for (int64_t j = 0; j < kw; j++) {
            const int64_t x = n * w.stride_w + j * w.dilation_w - w.left;
            if (x >= 0 && x < width) multiply_add(line + n * o, k.x.f32() + ((r / p * h + y) * width + x) * c, k.filter.f32() + (i * kw + j) * o, c, m);
          }
        }
    }
  });
}

void run(const DepthwiseInputGrad& k) {
  const ConvWindow w = conv_window(k.window);
  const int64_t p = k.dy.dim(1), q = k.dy.dim(2), h = k.dx.dim(1), width = k.dx.dim(2), c = k.dx.dim(3), m = k.filter.dim(3), kh = k.filter.dim(0), kw = k.filter.dim(1), o = c * m;
  parallel_ranges(k.dx.dim(0) * h, 8192 / (width * o * kh * kw + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      float* line = k.dx.f32() + r * width * c;
      __builtin_memset(line, 0, static_cast<size_t>(width * c) * 4);
      for (int64_t i = 0; i < kh; i++) {
        const int64_t up = r % h + w.top - i * w.dilation_h;
        if (up < 0 || up % w.stride_h != 0 || up / w.stride_h >= p) continue;
        for (int64_t n = 0; n < width; n++)
          for (int64_t j = 0; j < kw; j++) {
            const int64_t over = n + w.left - j * w.dilation_w;
            if (over < 0 || over % w.stride_w != 0 || over / w.stride_w >= q) continue;
            const float* dy = k.dy.f32() + ((r / h * p + up / w.stride_h) * q + over / w.stride_w) * o;
            const float* f = k.filter.f32() + (i * kw + j) * o;
            float* dx = line + n * c;
            if (m == 1) {
              for (int64_t t = 0; t < c; t++) dx[t] += dy[t] * f[t];
            } else {
              for (int64_t t = 0; t < o; t++) dx[t / m] += dy[t] * f[t];
            }
          }
      }
    }
  });
}

void run(const DepthwiseFilterGrad& k) {
  const ConvWindow w = conv_window(k.window);
  const int64_t p = k.dy.dim(1), q = k.dy.dim(2), h = k.x.dim(1), width = k.x.dim(2), c = k.x.dim(3), m = k.dfilter.dim(3), kw = k.dfilter.dim(1), o = c * m;
  constexpr int64_t kBand = 64;  // channels of x
  const int64_t bands = (c + kBand - 1) / kBand;
  parallel_for(k.dfilter.dim(0) * kw * bands, [&](int64_t item) {
    const int64_t tap = item / bands, i = tap / kw, j = tap % kw, first = item % bands * kBand, channels = c - first < kBand ? c - first : kBand;
    float* df = k.dfilter.f32() + tap * o + first * m;
    __builtin_memset(df, 0, static_cast<size_t>(channels * m) * 4);
    for (int64_t r = 0; r < k.dy.dim(0) * p; r++) {
      const int64_t y = r % p * w.stride_h + i * w.dilation_h - w.top;
      if (y < 0 || y >= h) continue;
      for (int64_t n = 0; n < q; n++) {
        const int64_t x = n * w.stride_w + j * w.dilation_w - w.left;
        if (x >= 0 && x < width) multiply_add(df, k.x.f32() + ((r / p * h + y) * width + x) * c + first, k.dy.f32() + (r * q + n) * o + first * m, channels, m);
      }
    }
  });
}

}  // namespace simmim::SIMMIM_ISA
