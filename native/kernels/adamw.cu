#include "adamw.h"

#include "../cuda/launch.cuh"
#include "../cuda/vec.cuh"

namespace simmim::cuda {

namespace {

constexpr int kQuads = 2;                             // of a thread
constexpr int64_t kPiece = int64_t{kThreads} * kQuads * 4;  // elements of a block

struct Update {
  float *weights, *m, *v;
  const float *gradient, *norm, *lr_scale, *decay_scale, *hyper;
  const int32_t* ends;
  uint16_t* shadow;
  int64_t n, segments;
  bool packs;
};

/// The numbers of one segment, in the form the update wants them.
struct Segment {
  float clip, keep, lr, beta1_rest, beta2_rest, root_correction, eps;
  SIMMIM_DEVICE Segment(const Update& k, int64_t s) {
    const float* h = k.hyper;
    const float rate = h[0] * k.lr_scale[s], factor = h[7] > 0 ? h[7] / (*k.norm + 1e-6f) : 1.0f;
    clip = factor < 1 ? factor : 1.0f;
    keep = 1 - rate * (h[1] * k.decay_scale[s]);
    lr = rate / h[5];
    beta1_rest = h[2], beta2_rest = h[3], eps = h[4];
    root_correction = sqrtf(h[6]);
  }
  SIMMIM_DEVICE void apply(float gradient, float& weight, float& m, float& v) const {
    const float g = gradient * clip;
    m = fmaf(beta1_rest, g - m, m);
    v = fmaf(v, 1 - beta2_rest, beta2_rest * (g * g));
    weight = weight * keep - lr * (m / (sqrtf(v) / root_correction + eps));
  }
};

/// The first segment that ends after `at`.
SIMMIM_DEVICE int64_t segment_at(const Update& k, int64_t at) {
  int64_t low = 0, high = k.segments;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (k.ends[middle] > at) high = middle;
    else low = middle + 1;
  }
  return low;
}

SIMMIM_DEVICE void update_one(const Update& k, int64_t s, int64_t i) {
  Segment(k, s).apply(k.gradient[i], k.weights[i], k.m[i], k.v[i]);
  if (k.shadow) k.shadow[i] = float_to_bf16(k.weights[i]);
}

SIMMIM_DEVICE void update_pack(const Update& k, int64_t s, int64_t i) {
  const Segment numbers(k, s);
  Pack<4> w = load_pack(k.weights + i), m = load_pack(k.m + i), v = load_pack(k.v + i);
  const Pack<4> g = load_pack(k.gradient + i);
  for (int j = 0; j < 4; j++) numbers.apply(g[j], w[j], m[j], v[j]);
  store_pack(k.weights + i, w);
  store_pack(k.m + i, m);
  store_pack(k.v + i, v);
  if (k.shadow) *as_vector<uint2>(k.shadow + i) = make_uint2(bf16_pair(w[0], w[1]), bf16_pair(w[2], w[3]));
}

/// A block looks for the segment of its piece once, each thread goes on from there.
__global__ void update_kernel(Update k) {
  if (!(fabsf(*k.norm) < __builtin_inff())) return;
  for (int64_t piece = blockIdx.x * kPiece; piece < k.n; piece += gridDim.x * kPiece) {
    int64_t s = segment_at(k, piece);
    for (int quad = 0; quad < kQuads; quad++) {
      const int64_t i = piece + (int64_t{quad} * kThreads + threadIdx.x) * 4;
      while (s < k.segments && k.ends[s] <= i) s++;
      if (s >= k.segments || i >= k.n) break;
      if (k.packs && i + 4 <= k.n && k.ends[s] >= i + 4) {
        update_pack(k, s, i);
        continue;
      }
      for (int64_t at = i; at < i + 4 && at < k.n; at++) {
        while (s < k.segments && k.ends[s] <= at) s++;
        if (s < k.segments) update_one(k, s, at);
      }
    }
  }
}

}  // namespace

void run(const AdamW& k, Stream& stream) {
  const int64_t n = k.weights.count(), pieces = (n + kPiece - 1) / kPiece, most = static_cast<int64_t>(stream.multiprocessors) * 64;
  if (n == 0) return;
  const bool packs = packs_allowed(k.weights.data, k.m.data, k.v.data, k.gradient.data, k.shadow.data);
  launch(stream, &update_kernel, Grid{dim3(static_cast<unsigned>(pieces < most ? pieces : most)), dim3(kThreads)},
         Update{k.weights.f32(), k.m.f32(), k.v.f32(), k.gradient.f32(), k.norm.f32(), k.lr_scale.f32(), k.decay_scale.f32(), k.hyper.f32(), k.ends.i32(), k.shadow.bf16(), n, k.ends.count(), packs});
}

}  // namespace simmim::cuda
