#include "mask_tokens.h"

#include "../cpu/column_sums.h"
#include "../cpu/reduce.h"

namespace simmim::SIMMIM_ISA {

/// y = x (1 - m) + token m + position; x is null for a token that is not in the map, position is null for none.
template <class X, class Y>
static void make_token(const X* x, const float* token, float m, const float* position, Y* y, int64_t channels) {
  for_lanes(channels, [&](int64_t i, int n) {
    Vec v = m == 1 || !x ? load_lanes(token + i, n) : load_lanes(x + i, n);
    if (m != 1 && m != 0) v = v * (1 - m) + load_lanes(token + i, n) * m;
    if (position) v += load_lanes(position + i, n);
    store_lanes(y + i, v, n);
  });
}

void run(const MaskTokens& k) {
  const int64_t length = k.y.dim(1), channels = k.y.dim(2), in_front = length - k.x.dim(1);
  with_floats(k.x, [&](const auto* x) {
    with_floats(k.y, [&](auto* y) {
      parallel_ranges(k.y.dim(0) * length, 64, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; t++) {
          const int64_t b = t / length, l = t % length - in_front, source = b * (length - in_front) + l;
          const float* position = k.positions.present() ? k.positions.f32() + (l + in_front) * channels : nullptr;
          if (l < 0) make_token(decltype(x){nullptr}, k.class_token.f32(), 1, position, y + t * channels, channels);
          else make_token(x + source * channels, k.token.f32(), k.mask.present() ? k.mask.f32()[source] : 0.0f, position, y + t * channels, channels);
        }
      });
    });
  });
}

/// sums [n, C] = sums over the batch of the tokens [first, first + n) of dy.
template <class T>
static void sum_batch(const MaskTokensGrad& k, const T* dy, int64_t first, int64_t n, float* sums) {
  const int64_t length = k.dy.dim(1), channels = k.dy.dim(2);
  parallel_ranges(n, 16, [&](int64_t begin, int64_t end) {
    for (int64_t l = begin; l < end; l++)
      for_lanes(channels, [&](int64_t i, int lanes) {
        Vec sum{};
        for (int64_t b = 0; b < k.dy.dim(0); b++) sum += load_lanes(dy + (b * length + first + l) * channels + i, lanes);
        store_lanes(sums + l * channels + i, sum, lanes);
      });
  });
}

/// dx, and the sums of dy m over each chunk of tokens.
template <class Y, class X>
static void map_gradient(const MaskTokensGrad& k, const Y* dys, X* dxs, float* partials) {
  const int64_t channels = k.dy.dim(2), length = k.length();
  parallel_ranges(k.tokens(), MaskTokensGrad::kChunk, [&](int64_t begin, int64_t end) {
    float* partial = partials + begin / MaskTokensGrad::kChunk * channels;
    for (int64_t i = 0; partials && i < channels; i++) partial[i] = 0;
    for (int64_t t = begin; t < end; t++) {
      const float m = k.mask.present() ? k.mask.f32()[t] : 0.0f;
      const Y* dy = dys + (t + (t / length + 1) * k.in_front) * channels;
      if (partials && m != 0) for_lanes(channels, [&](int64_t i, int n) { store_lanes(partial + i, fma(load_lanes(dy + i, n), splat(m), load_lanes(partial + i, n)), n); });
      if (!dxs) continue;
      X* dx = dxs + t * channels;
      for_lanes(channels, [&](int64_t i, int n) { store_lanes(dx + i, m == 1 ? Vec{} : load_lanes(dy + i, n) * (1 - m), n); });
    }
  });
}

void run(const MaskTokensGrad& k) {
  float* const partials = k.dtoken.present() ? static_cast<float*>(k.workspace) : nullptr;
  with_floats(k.dy, [&](const auto* dy) {
    with_floats(k.dx, [&](auto* dx) { map_gradient(k, dy, dx, partials); });
    if (k.dclass_token.present()) sum_batch(k, dy, 0, 1, k.dclass_token.f32());
    if (k.dpositions.present()) sum_batch(k, dy, 0, k.dy.dim(1), k.dpositions.f32());
  });
  if (k.dtoken.present()) combine_column_sums(partials, k.chunks(), k.dy.dim(2), k.dtoken.f32(), false);
}

}  // namespace simmim::SIMMIM_ISA
