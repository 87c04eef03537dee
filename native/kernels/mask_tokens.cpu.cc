#include "mask_tokens.h"

#include "../cpu/column_sums.h"
#include "../cpu/reduce.h"

namespace simmim::SIMMIM_ISA {

static void mask_row(const float* x, const float* token, float m, float* y, int64_t channels) {
  if (m == 0) return for_lanes(channels, [&](int64_t i, int n) { store_lanes(y + i, load_lanes(x + i, n), n); });
  if (m == 1) return for_lanes(channels, [&](int64_t i, int n) { store_lanes(y + i, load_lanes(token + i, n), n); });
  for_lanes(channels, [&](int64_t i, int n) { store_lanes(y + i, load_lanes(x + i, n) * (1 - m) + load_lanes(token + i, n) * m, n); });
}

void run(const MaskTokens& k) {
  const int64_t channels = k.x.dim(2);
  parallel_ranges(k.x.dim(0) * k.x.dim(1), 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) mask_row(k.x.f32() + t * channels, k.token.f32(), k.mask.f32()[t], k.y.f32() + t * channels, channels);
  });
}

void run(const MaskTokensGrad& k) {
  const int64_t channels = k.dy.dim(2);
  float* partials = static_cast<float*>(k.workspace);
  const bool token = k.dtoken.present();
  parallel_ranges(k.tokens(), MaskTokensGrad::kChunk, [&](int64_t begin, int64_t end) {
    float* partial = partials + begin / MaskTokensGrad::kChunk * channels;
    for (int64_t i = 0; token && i < channels; i++) partial[i] = 0;
    for (int64_t t = begin; t < end; t++) {
      const float m = k.mask.f32()[t];
      const float* dy = k.dy.f32() + t * channels;
      if (token && m != 0) for_lanes(channels, [&](int64_t i, int n) { store_lanes(partial + i, fma(load_lanes(dy + i, n), splat(m), load_lanes(partial + i, n)), n); });
      if (!k.dx.present()) continue;
      float* dx = k.dx.f32() + t * channels;
      for_lanes(channels, [&](int64_t i, int n) { store_lanes(dx + i, load_lanes(dy + i, n) * (1 - m), n); });
    }
  });
  if (token) combine_column_sums(partials, k.chunks(), channels, k.dtoken.f32(), false);
}

}  // namespace simmim::SIMMIM_ISA
