#include "batch_norm.h"

#include "../cuda/divide.cuh"
#include "../cuda/launch.cuh"

namespace simmim::cuda {

namespace {

struct ChannelFactor {
  const float *variance, *scale;
  float* factor;
  double eps;
  __device__ void operator()(int64_t c) const { factor[c] = static_cast<float>((scale ? scale[c] : 1.0) / ::sqrt(static_cast<double>(variance[c]) + eps)); }
};

struct Normalise {
  const float *x, *mean, *factor, *offset;
  float* y;
  Coordinates<2> places;  // row, channel
  __device__ void operator()(int64_t i) const {
    int64_t at[2];
    places.find(i, at);
    const float v = (x[i] - mean[at[1]]) * factor[at[1]];
    y[i] = offset ? v + offset[at[1]] : v;
  }
};

}  // namespace

void run(const BatchNorm& k, Stream& stream) {
  auto* factor = static_cast<float*>(k.workspace);
  for_each(stream, k.x.dim(1), ChannelFactor{k.variance.f32(), k.scale.f32(), factor, k.eps});
  for_each(stream, k.x.count(), Normalise{k.x.f32(), k.mean.f32(), factor, k.offset.f32(), k.y.f32(), Coordinates<2>({k.x.dim(0), k.x.dim(1)})});
}

}  // namespace simmim::cuda
