#include "range.h"

#include "../cuda/launch.cuh"
#include "elementary.cuh"

namespace simmim::cuda {

namespace {

struct Step {
  Tensor y;
  double start, step;
  __device__ void operator()(int64_t i) const {
    const double v = start + static_cast<double>(i) * step;
    if (y.dtype == DType::f32) y.f32()[i] = static_cast<float>(v);
    else y.i32()[i] = to_int32(v);
  }
};

}  // namespace

void run(const Range& k, Stream& stream) { for_each(stream, k.y.count(), Step{k.y, k.start, k.step}); }

}  // namespace simmim::cuda
