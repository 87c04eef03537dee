#include "mask_tokens.h"

#include "../cuda/gemm.h"
#include "../cuda/rows.cuh"
#include "../cuda/side.cuh"

namespace simmim::cuda {

namespace {

/// y = x (1 - m) + token m, a warp per token of the map.
struct MaskRow {
  Side x, y;
  const float *token, *mask;
  int64_t channels;
  bool several;
  __device__ void operator()(int64_t row) const {
    const float m = mask[row];
    const int64_t start = row * channels;
    const auto mixed = [&](float v, float t) { return m == 1 ? t : v * (1 - m) + t * m; };
    each_of_row(
        channels, several, [&](int64_t i) { store_one(y, start + i, m == 0 ? load_one(x, start + i) : mixed(m == 1 ? 0 : load_one(x, start + i), token[i])); },
        [&](int64_t i) {
          Many v{};
          if (m != 1) v = load_many(x, start + i);
          if (m != 0) {
            const Many t = load_many(token + i);
            for (int j = 0; j < kMany; j++) v[j] = mixed(v[j], t[j]);
          }
          store_many(y, start + i, v);
        });
  }
};

struct KeepRow {
  Side dy, dx;
  const float* mask;
  int64_t channels;
  bool several;
  __device__ void operator()(int64_t row) const {
    const float keep = 1 - mask[row];
    const int64_t start = row * channels;
    each_of_row(
        channels, several, [&](int64_t i) { store_one(dx, start + i, load_one(dy, start + i) * keep); },
        [&](int64_t i) {
          Many v = load_many(dy, start + i);
          for (int j = 0; j < kMany; j++) v[j] *= keep;
          store_many(dx, start + i, v);
        });
  }
};

/// Sum of dy m over one chunk of tokens, for one channel.
struct TokenSums {
  Side dy;
  const float* mask;
  float* partials;
  int64_t tokens, channels;
  __device__ void operator()(int64_t item) const {
    const int64_t chunk = item / channels, i = item % channels, first = chunk * MaskTokensGrad::kChunk;
    const int64_t end = first + MaskTokensGrad::kChunk < tokens ? first + MaskTokensGrad::kChunk : tokens;
    float sum = 0;
    for (int64_t t = first; t < end; t++) {
      const float m = mask[t];
      if (m != 0) sum = fmaf(load_one(dy, t * channels + i), m, sum);
    }
    partials[item] = sum;
  }
};

}  // namespace

void run(const MaskTokens& k, Stream& stream) {
  const int64_t channels = k.x.dim(2);
  const bool several = many_allowed(channels, k.x.data, k.y.data, k.token.data);
  for_each_row(stream, k.x.dim(0) * k.x.dim(1), MaskRow{side_of(k.x), side_of(k.y), k.token.f32(), k.mask.f32(), channels, several});
}

void run(const MaskTokensGrad& k, Stream& stream) {
  const int64_t channels = k.dy.dim(2);
  if (k.dx.present()) for_each_row(stream, k.tokens(), KeepRow{side_of(k.dy), side_of(k.dx), k.mask.f32(), channels, many_allowed(channels, k.dy.data, k.dx.data)});
  if (!k.dtoken.present()) return;
  float* const partials = static_cast<float*>(k.workspace);
  for_each(stream, k.chunks() * channels, TokenSums{side_of(k.dy), k.mask.f32(), partials, k.tokens(), channels});
  combine_row_sums(partials, k.chunks(), channels, k.dtoken.f32(), false, stream);
}

}  // namespace simmim::cuda
