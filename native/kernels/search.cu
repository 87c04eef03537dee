#include "search.h"

#include "../cuda/bisect.cuh"
#include "../cuda/launch.cuh"

namespace simmim::cuda {

namespace {

template <class T>
struct SearchRow {
  const T *sorted, *values;
  int32_t* y;
  int64_t n, m;
  bool right;
  __device__ void operator()(int64_t at) const {
    const T* row = sorted + at / m * n;
    const T value = values[at];
    y[at] = static_cast<int32_t>(first_not(n, [&](int64_t i) { return right ? row[i] <= value : row[i] < value; }));
  }
};

template <class T>
void search(const SearchSorted& k, Stream& stream) {
  for_each(stream, k.values.count(), SearchRow<T>{k.sorted.as<T>(), k.values.as<T>(), k.y.i32(), k.sorted.dim(1), k.values.dim(1), k.right});
}

}  // namespace

void run(const SearchSorted& k, Stream& stream) {
  if (k.sorted.dtype == DType::f32) search<float>(k, stream);
  else search<int32_t>(k, stream);
}

}  // namespace simmim::cuda
