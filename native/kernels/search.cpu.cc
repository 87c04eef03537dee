#include "search.h"

#include "../cpu/bisect.h"
#include "../cpu/thread_pool.h"

namespace simmim::SIMMIM_ISA {

template <class T, bool Right>
static void search(const SearchSorted& k) {
  const int64_t n = k.sorted.dim(1), m = k.values.dim(1);
  parallel_ranges(k.values.count(), 1024, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at++) {
      const T* row = k.sorted.as<T>() + at / m * n;
      const T value = k.values.as<T>()[at];
      k.y.i32()[at] = static_cast<int32_t>(first_not(n, [&](int64_t i) { return Right ? row[i] <= value : row[i] < value; }));
    }
  });
}

void run(const SearchSorted& k) {
  if (k.sorted.dtype == DType::f32) k.right ? search<float, true>(k) : search<float, false>(k);
  else k.right ? search<int32_t, true>(k) : search<int32_t, false>(k);
}

}  // namespace simmim::SIMMIM_ISA
