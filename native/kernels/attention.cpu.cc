#include "attention.h"

#include "../cpu/attention_core.h"
#include "../cpu/thread_pool.h"

namespace simmim::SIMMIM_ISA {
namespace {

/// Where image b, head h of qkv lies: token i at base + i * pitch, k and v `channels` further each.
struct Place {
  int64_t length, channels, d, pitch;
  int64_t offset(int64_t b, int64_t h) const { return b * length * pitch + h * d; }
  int64_t out_offset(int64_t b, int64_t h) const { return b * length * channels + h * d; }
};

Place place_of(const Tensor& qkv, int32_t heads) {
  const int64_t channels = qkv.dim(2) / 3;
  return {qkv.dim(1), channels, channels / heads, qkv.dim(2)};
}

/// The bias of one head, where there is one.
ScoreTerms terms_of(const Tensor& bias, int64_t length, int64_t head) {
  return {bias.present() ? bias.f32() + head * length * length : nullptr, length, false, nullptr};
}

template <class T>
void gather_head(const HeadTiles& t, const Place& p, const T* at, float scale) {
  const auto token = [&](int64_t i) { return i * p.pitch; };
  gather_rows(t, at, token, scale * kLog2E, t.q);
  const T *k = at + p.channels, *v = at + 2 * p.channels;
  if (!t.v_columns) {
    gather_columns(t, k, token, t.k, t.k_columns);
    gather_rows(t, v, token, 1.0f, t.v);
    return;
  }
  gather_rows(t, k, token, 1.0f, t.k);
  transpose_tile(t, t.k, t.k_columns);
  gather_columns(t, v, token, t.v, t.v_columns);
}

template <class T>
void forward(const Attention& k) {
  const Place p = place_of(k.qkv, k.heads);
  parallel_for(k.qkv.dim(0) * k.heads, [&](int64_t item) {
    const int64_t b = item / k.heads, h = item % k.heads;
    float* rest;
    const HeadTiles t = HeadTiles::make(p.length, p.d, false, 0, &rest);
    gather_head(t, p, k.qkv.as<T>() + p.offset(b, h), k.scale);
    attend(t, terms_of(k.bias, p.length, h), NothingMeanwhile{}, [&](int64_t begin, const float* inverse) {
      return TokenRows<T>::make(k.y.as<T>() + p.out_offset(b, h) + begin * p.channels, nullptr, p.channels, p.d, inverse, 0, false);
    });
  });
}

template <class T>
void gradient_of(const AttentionGrad& k, const Place& p, int64_t b, int64_t h, float* dbias, bool first) {
  float* rest;
  const HeadTiles t = HeadTiles::make(p.length, p.d, true, 0, &rest);
  gather_head(t, p, k.qkv.as<T>() + p.offset(b, h), k.scale);
  const auto gather_dout = [&](int64_t begin, int64_t end, const float* inverse) {
    gather_rows(t, begin, end, k.dy.as<T>() + p.out_offset(b, h), [&](int64_t i) { return i * p.channels; }, [&](int64_t i) { return inverse[i - begin]; }, t.dout);
  };
  const auto add_bias = [&](int64_t i, int64_t j, Vec ds) {
    if (!dbias) return;
    float* at = dbias + i * p.length + j;
    const int lanes = static_cast<int>(p.length - j < kLanes ? p.length - j : kLanes);
    store_lanes(at, first ? ds : load_lanes(at, lanes) + ds, lanes);
  };
  const auto place = [&](int64_t part, float factor) { return TokenRows<T>::make(k.dqkv.as<T>() + part * p.channels + p.offset(b, h), nullptr, p.pitch, p.d, nullptr, factor, false); };
  attend_gradient(t, terms_of(k.bias, p.length, h), NothingMeanwhile{}, gather_dout, add_bias, GradientRows{place(0, k.scale), place(1, kLn2), place(2, 1)});
}

template <class T>
void backward(const AttentionGrad& k) {
  const Place p = place_of(k.qkv, k.heads);
  const int64_t batch = k.qkv.dim(0), groups = k.groups(), square = p.length * p.length;
  float* partial = static_cast<float*>(k.workspace);
  if (!k.dbias.present()) {
    parallel_for(batch * k.heads, [&](int64_t item) { gradient_of<T>(k, p, item / k.heads, item % k.heads, nullptr, true); });
    return;
  }
  parallel_for(groups * k.heads, [&](int64_t item) {
    const int64_t g = item / k.heads, h = item % k.heads;
    for (int64_t b = g; b < batch; b += groups) gradient_of<T>(k, p, b, h, partial + item * square, b == g);
  });
  parallel_ranges(k.heads * square, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      float total = 0;
      for (int64_t g = 0; g < groups; g++) total += partial[g * k.heads * square + i];
      k.dbias.f32()[i] = total;
    }
  });
}

}  // namespace

void run(const Attention& k) {
  if (k.qkv.count() == 0) return;
  if (k.qkv.dtype == DType::bf16) forward<uint16_t>(k);
  else forward<float>(k);
}

void run(const AttentionGrad& k) {
  if (k.dbias.present() && k.qkv.count() == 0)
    for (int64_t i = 0; i < k.dbias.count(); i++) k.dbias.f32()[i] = 0;
  if (k.qkv.count() == 0) return;
  if (k.qkv.dtype == DType::bf16) backward<uint16_t>(k);
  else backward<float>(k);
}

}  // namespace simmim::SIMMIM_ISA
