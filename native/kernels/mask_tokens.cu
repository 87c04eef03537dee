#include "mask_tokens.h"

#include "../cuda/gemm.h"
#include "../cuda/rows.cuh"
#include "../cuda/side.cuh"

namespace simmim::cuda {

namespace {

/// y = x (1 - m) + token m + position, a warp per token of y; the class token stands in front where there is one.
struct MakeRow {
  Side x, y;
  const float *token, *mask, *class_token, *positions;
  int64_t length, channels;  // tokens of y in one image
  bool several;
  __device__ void operator()(int64_t row) const {
    const int64_t in_front = class_token ? 1 : 0, at = row % length, source = row / length * (length - in_front) + at - in_front;
    const bool is_class = at < in_front;
    const float m = is_class ? 1 : mask ? mask[source] : 0;
    const float *const put = is_class ? class_token : token, *const position = positions ? positions + at * channels : nullptr;
    const int64_t from = source * channels, to = row * channels;
    const auto mixed = [&](float v, float t) { return m == 1 ? t : v * (1 - m) + t * m; };
    each_of_row(
        channels, several,
        [&](int64_t i) {
          const float v = m == 0 ? load_one(x, from + i) : mixed(m == 1 ? 0 : load_one(x, from + i), put[i]);
          store_one(y, to + i, position ? v + position[i] : v);
        },
        [&](int64_t i) {
          Many v{};
          if (m != 1) v = load_many(x, from + i);
          if (m != 0) {
            const Many t = load_many(put + i);
            for (int j = 0; j < kMany; j++) v[j] = mixed(v[j], t[j]);
          }
          if (position) {
            const Many p = load_many(position + i);
            for (int j = 0; j < kMany; j++) v[j] += p[j];
          }
          store_many(y, to + i, v);
        });
  }
};

/// dx = dy (1 - m), a warp per token of the map.
struct KeepRow {
  Side dy, dx;
  const float* mask;
  int64_t length, in_front, channels;  // tokens of the map in one image
  bool several;
  __device__ void operator()(int64_t row) const {
    const float keep = mask ? 1 - mask[row] : 1;
    const int64_t from = (row + (row / length + 1) * in_front) * channels, to = row * channels;
    each_of_row(
        channels, several, [&](int64_t i) { store_one(dx, to + i, load_one(dy, from + i) * keep); },
        [&](int64_t i) {
          Many v = load_many(dy, from + i);
          for (int j = 0; j < kMany; j++) v[j] *= keep;
          store_many(dx, to + i, v);
        });
  }
};

/// sums [n, C] = sums over the batch of the first n tokens of dy.
struct BatchSums {
  Side dy;
  float* sums;
  int64_t batch, length, channels;
  __device__ void operator()(int64_t item) const {
    float sum = 0;
    for (int64_t b = 0; b < batch; b++) sum += load_one(dy, b * length * channels + item);
    sums[item] = sum;
  }
};

/// Sum of dy m over one chunk of tokens, for one channel.
struct TokenSums {
  Side dy;
  const float* mask;
  float* partials;
  int64_t tokens, length, in_front, channels;
  __device__ void operator()(int64_t item) const {
    const int64_t chunk = item / channels, i = item % channels, first = chunk * MaskTokensGrad::kChunk;
    const int64_t end = first + MaskTokensGrad::kChunk < tokens ? first + MaskTokensGrad::kChunk : tokens;
    float sum = 0;
    for (int64_t t = first; t < end; t++) {
      const float m = mask[t];
      if (m != 0) sum = fmaf(load_one(dy, (t + (t / length + 1) * in_front) * channels + i), m, sum);
    }
    partials[item] = sum;
  }
};

}  // namespace

void run(const MaskTokens& k, Stream& stream) {
  const int64_t length = k.y.dim(1), channels = k.y.dim(2);
  const bool several = many_allowed(channels, k.x.data, k.y.data, k.token.data, k.class_token.data, k.positions.data);
  for_each_row(stream, k.y.dim(0) * length, MakeRow{side_of(k.x), side_of(k.y), k.token.f32(), k.mask.f32(), k.class_token.f32(), k.positions.f32(), length, channels, several});
}

void run(const MaskTokensGrad& k, Stream& stream) {
  const int64_t batch = k.dy.dim(0), channels = k.dy.dim(2);
  const Side dy = side_of(k.dy);
  if (k.dx.present()) for_each_row(stream, k.tokens(), KeepRow{dy, side_of(k.dx), k.mask.f32(), k.length(), k.in_front, channels, many_allowed(channels, k.dy.data, k.dx.data)});
  if (k.dclass_token.present()) for_each(stream, channels, BatchSums{dy, k.dclass_token.f32(), batch, k.dy.dim(1), channels});
  if (k.dpositions.present()) for_each(stream, k.dy.dim(1) * channels, BatchSums{dy, k.dpositions.f32(), batch, k.dy.dim(1), channels});
  if (!k.dtoken.present()) return;
  float* const partials = static_cast<float*>(k.workspace);
  for_each(stream, k.chunks() * channels, TokenSums{dy, k.mask.f32(), partials, k.tokens(), k.length(), k.in_front, channels});
  combine_row_sums(partials, k.chunks(), channels, k.dtoken.f32(), false, stream);
}

}  // namespace simmim::cuda
