#include "lrn.h"

#include "../cpu/reduce.h"
#include "../cpu/thread_pool.h"
#include "../cpu/vmath.h"

namespace simmim::SIMMIM_ISA {

namespace {

/// n^-beta. The exponents in use have square roots; others go through the logarithm where n is positive.
SIMMIM_INLINE Vec inverse_power(Vec n, float beta) {
  if (beta == 0.75f) {
    const Vec root = sqrt(n);
    return 1.0f / (root * sqrt(root));
  }
  if (beta == 0.5f) return 1.0f / sqrt(n);
  if (beta == 1.0f) return 1.0f / n;
  Vec y;
  for (int i = 0; i < kLanes; i++) y[i] = __builtin_powf(n[i], -beta);
  return y;
}

/// Sum of term(c') over the channels within `radius` of the lanes from `c` on; term gives whole registers from any channel.
template <class Lanes, class One>
SIMMIM_INLINE Vec window_sum(int64_t c, int lanes, int64_t channels, int64_t radius, const Lanes& term, const One& one) {
  Vec sum{};
  if (lanes == kLanes && c >= radius && c + kLanes + radius <= channels) {
    for (int64_t j = c - radius; j <= c + radius; j++) sum += term(j);
    return sum;
  }
  for (int i = 0; i < lanes; i++) {
    const int64_t at = c + i, first = at > radius ? at - radius : 0, last = at + radius < channels ? at + radius : channels - 1;
    float total = 0;
    for (int64_t j = first; j <= last; j++) total += one(j);
    sum[i] = total;
  }
  return sum;
}

SIMMIM_INLINE Vec norm(const float* x, int64_t c, int lanes, int64_t channels, int64_t radius, float bias, float alpha) {
  const Vec squares = window_sum(c, lanes, channels, radius, [&](int64_t j) { const Vec v = load(x + j); return v * v; }, [&](int64_t j) { return x[j] * x[j]; });
  return alpha * squares + bias;
}

}  // namespace

void run(const Lrn& k) {
  const int64_t channels = k.x.dim(1), radius = k.radius < channels ? k.radius : channels;
  parallel_ranges(k.x.dim(0), 8192 / (channels * (radius + 1) + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const float* x = k.x.f32() + r * channels;
      float* y = k.y.f32() + r * channels;
      for_lanes(channels, [&](int64_t c, int lanes) { store_lanes(y + c, load_lanes(x + c, lanes) * inverse_power(norm(x, c, lanes, channels, radius, k.bias, k.alpha), k.beta), lanes); });
    }
  });
}

void run(const LrnGrad& k) {
  const int64_t channels = k.x.dim(1), radius = k.radius < channels ? k.radius : channels, rows = k.x.dim(0), groups = k.groups();
  const float factor = -2 * k.alpha * k.beta;
  parallel_for(groups, [&](int64_t group) {
    float *power = static_cast<float*>(k.workspace) + group * 2 * channels, *term = power + channels;
    for (int64_t r = group * rows / groups; r < (group + 1) * rows / groups; r++) {
      const float *x = k.x.f32() + r * channels, *y = k.y.f32() + r * channels, *dy = k.dy.f32() + r * channels;
      float* dx = k.dx.f32() + r * channels;
      for_lanes(channels, [&](int64_t c, int lanes) {
        const Vec n = norm(x, c, lanes, channels, radius, k.bias, k.alpha);
        store_lanes(power + c, inverse_power(n, k.beta), lanes);
        store_lanes(term + c, load_lanes(dy + c, lanes) * load_lanes(y + c, lanes) / n, lanes);
      });
      for_lanes(channels, [&](int64_t c, int lanes) {
        const Vec sum = window_sum(c, lanes, channels, radius, [&](int64_t j) { return load(term + j); }, [&](int64_t j) { return term[j]; });
        store_lanes(dx + c, load_lanes(dy + c, lanes) * load_lanes(power + c, lanes) + factor * load_lanes(x + c, lanes) * sum, lanes);
      });
    }
  });
}

}  // namespace simmim::SIMMIM_ISA
