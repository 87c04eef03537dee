#include "random_values.h"

#include "../core/rng.h"
#include "../cuda/launch.cuh"
#include "normal_quantile.h"

namespace simmim::cuda {

namespace {

SIMMIM_DEVICE double natural_log(double x) {
  int exponent;
  double mantissa = frexp(x, &exponent);
  if (mantissa < kSqrtHalf) {
    mantissa *= 2;
    exponent--;
  }
  return simmim::natural_log(mantissa, static_cast<double>(exponent));
}

SIMMIM_DEVICE double quantile(double p) {
  const double q = p - 0.5;
  if (fabs(q) <= kCentral) return central_quantile(q);
  const double y = tail_quantile(sqrt(-natural_log(q < 0 ? p : 1 - p)));
  return q < 0 ? -y : y;
}

/// Four numbers of one counter.
struct Draw {
  float* y;
  int64_t count;
  uint32_t seed, site;
  double low, width, scale;
  bool normal;
  __device__ void operator()(int64_t group) const {
    const PhiloxWords words = philox(seed, site, 0, static_cast<uint64_t>(group));
    for (int lane = 0; lane < 4 && 4 * group + lane < count; lane++) {
      const double p = low + rounded_product(width, ((words.w[lane] >> 8) + 0.5) * 0x1p-24);
      y[4 * group + lane] = static_cast<float>(scale * (normal ? quantile(p) : p));
    }
  }
};

}  // namespace

void run(const RandomValues& k, Stream& stream) {
  const int64_t count = k.y.count();
  for_each(stream, (count + 3) / 4, Draw{k.y.f32(), count, static_cast<uint32_t>(k.seed), static_cast<uint32_t>(k.site), k.low, k.high - k.low, k.scale, k.normal});
}

}  // namespace simmim::cuda
