#include "drop_path.h"

#include "../core/rng.h"
#include "../cuda/launch.cuh"
#include "../cuda/side.cuh"

namespace simmim::cuda {

namespace {

/// keep[b] / (1 - rate); compared and divided in double, as the composed form does.
struct KeepFactor {
  const int32_t* clock;
  double rate;
  int64_t site, batch;
  SIMMIM_DEVICE float operator()(int64_t b) const {
    const PhiloxWords words = philox(static_cast<uint32_t>(clock[0]), static_cast<uint32_t>(site), static_cast<uint32_t>(clock[1]), static_cast<uint64_t>(clock[2] * batch + b));
    return uniform_from_word(words.w[0]) >= rate ? static_cast<float>(1 / (1 - rate)) : 0.0f;
  }
};

/// y = residual + x factor[b]; without a residual y = x factor[b]. `sample` = values (or runs of eight) of one sample.
struct ScaleBranch {
  Side x, residual, y;
  KeepFactor factor;
  int64_t sample;
  bool several;
  __device__ void operator()(int64_t i) const {
    const float f = factor(i / sample);
    if (!several) {
      const float r = residual.data ? load_one(residual, i) : 0;
      return store_one(y, i, f == 0 ? r : fmaf(load_one(x, i), f, r));
    }
    Many v{};
    if (residual.data) v = load_many(residual, kMany * i);
    if (f != 0) {
      const Many branch = load_many(x, kMany * i);
      for (int j = 0; j < kMany; j++) v[j] = fmaf(branch[j], f, v[j]);
    }
    store_many(y, kMany * i, v);
  }
};

void scale(const Tensor& x, const Tensor& residual, const Tensor& y, const KeepFactor& factor, Stream& stream) {
  const int64_t count = x.count(), sample = x.shape.span(1, x.shape.rank);
  if (count == 0) return;
  const bool several = many_allowed(sample, x.data, residual.data, y.data);
  const int64_t step = several ? kMany : 1;
  for_each(stream, count / step, ScaleBranch{side_of(x), side_of(residual), side_of(y), factor, sample / step, several});
}

}  // namespace

void run(const DropPath& k, Stream& stream) { scale(k.x, k.residual, k.y, {k.clock.i32(), k.rate, k.site, k.x.dim(0)}, stream); }

void run(const DropPathGrad& k, Stream& stream) { scale(k.dy, {}, k.dx, {k.clock.i32(), k.rate, k.site, k.dy.dim(0)}, stream); }

}  // namespace simmim::cuda
