#include "accumulate.h"

#include "../cuda/launch.cuh"
#include "../cuda/side.cuh"

namespace simmim::cuda {

namespace {

struct AddTo {
  float* flat;
  Side gradient;
  bool overwrite, several;
  __device__ void operator()(int64_t i) const {
    if (!several) {
      const float g = load_one(gradient, i);
      flat[i] = overwrite ? g : flat[i] + g;
      return;
    }
    Many v = load_many(gradient, kMany * i);
    if (!overwrite) {
      const Many old = load_many(flat + kMany * i);
      for (int j = 0; j < kMany; j++) v[j] += old[j];
    }
    store_many(flat + kMany * i, v);
  }
};

}  // namespace

void run(const Accumulate& k, Stream& stream) {
  float* const flat = k.flat.f32() + k.offset;
  const int64_t n = k.gradient.count();
  const bool several = many_allowed(n, flat, k.gradient.data);
  for_each(stream, several ? n / kMany : n, AddTo{flat, side_of(k.gradient), k.overwrite, several});
}

}  // namespace simmim::cuda
