#include "layer_norm.h"

#include "../cpu/column_sums.h"
#include "../cpu/reduce.h"

namespace simmim::SIMMIM_ISA {

/// f(p) with p of the element type of a float tensor.
template <class F>
static SIMMIM_INLINE void with_floats(const Tensor& t, const F& f) {
  if (t.dtype == DType::bf16) f(t.bf16());
  else f(t.f32());
}

template <class X, class Y>
static void normalize_row(const X* x, const LayerNorm& k, Y* y, int64_t row) {
  const int64_t channels = k.x.dim(-1);
  const float count = static_cast<float>(channels);
  const float *gamma = k.gamma.f32(), *beta = k.beta.f32();
  const float mean = row_sum(channels, [&](int64_t i, int n) { return load_lanes(x + i, n); }) / count;
  const float variance = row_sum(channels, [&](int64_t i, int n) {
    const Vec distance = load_lanes(x + i, n, mean) - mean;
    return distance * distance;
  }) / count;
  const float rstd = 1.0f / __builtin_sqrtf(variance + k.eps);
  for_lanes(channels, [&](int64_t i, int n) {
    const Vec hat = (load_lanes(x + i, n) - mean) * rstd;
    store_lanes(y + i, fma(hat, load_lanes(gamma + i, n), load_lanes(beta + i, n)), n);
  });
  if (k.mean.present()) k.mean.f32()[row] = mean;
  if (k.rstd.present()) k.rstd.f32()[row] = rstd;
}

void run(const LayerNorm& k) {
  const int64_t channels = k.x.dim(-1), grain = channels >= 8192 ? 1 : 8192 / channels;
  with_floats(k.x, [&](auto* x) {
    with_floats(k.y, [&](auto* y) {
      parallel_ranges(k.rows(), grain, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++) normalize_row(x + row * channels, k, y + row * channels, row);
      });
    });
  });
}

/// With h = (x - mean) rstd and g = dy gamma: dx = rstd (g - mean(g) - h mean(g h)). Adds dy h and dy to dgamma and dbeta.
template <class X, class Y>
static void grad_row(const LayerNormGrad& k, const X* x, const Y* dy, Y* dx, int64_t row, float* dgamma, float* dbeta) {
  const int64_t channels = k.x.dim(-1);
  const float* gamma = k.gamma.f32();
  const float mean = k.mean.f32()[row], rstd = k.rstd.f32()[row];
  Vec sum_g{}, sum_gh{};
  for_lanes(channels, [&](int64_t i, int n) {
    const Vec h = (load_lanes(x + i, n) - mean) * rstd, d = load_lanes(dy + i, n), g = d * load_lanes(gamma + i, n);
    sum_g += g;  // missing lanes of d are 0
    sum_gh = fma(g, h, sum_gh);
    if (dgamma) {
      store_lanes(dgamma + i, fma(d, h, load_lanes(dgamma + i, n)), n);
      store_lanes(dbeta + i, load_lanes(dbeta + i, n) + d, n);
    }
  });
  const float count = static_cast<float>(channels), mean_g = sum(sum_g) / count, mean_gh = sum(sum_gh) / count;
  for_lanes(channels, [&](int64_t i, int n) {
    const Vec h = (load_lanes(x + i, n) - mean) * rstd, g = load_lanes(dy + i, n) * load_lanes(gamma + i, n);
    store_lanes(dx + i, rstd * (g - mean_g - h * mean_gh), n);
  });
}

void run(const LayerNormGrad& k) {
  const int64_t channels = k.x.dim(-1), chunks = k.chunks();
  const bool parameters = k.dgamma.present();
  float *dgammas = static_cast<float*>(k.workspace), *dbetas = dgammas + chunks * channels;
  with_floats(k.x, [&](auto* x) {
    with_floats(k.dy, [&](auto* dy) {
      auto* dx = static_cast<decltype(dy)>(k.dx.data);
      parallel_ranges(k.rows(), k.chunk(), [&](int64_t begin, int64_t end) {
        const int64_t at = begin / k.chunk() * channels;
        float *dgamma = parameters ? dgammas + at : nullptr, *dbeta = parameters ? dbetas + at : nullptr;
        for (int64_t i = 0; parameters && i < channels; i++) dgamma[i] = dbeta[i] = 0;
        for (int64_t row = begin; row < end; row++) grad_row(k, x + row * channels, dy + row * channels, dx + row * channels, row, dgamma, dbeta);
      });
    });
  });
  if (!parameters) return;
  combine_column_sums(dgammas, chunks, channels, k.dgamma.f32(), false);
  combine_column_sums(dbetas, chunks, channels, k.dbeta.f32(), false);
}

}  // namespace simmim::SIMMIM_ISA
