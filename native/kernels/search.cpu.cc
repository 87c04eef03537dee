#include "search.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

template <class T, bool Right>
static void search(const SearchSorted& k) {
  const int64_t n = k.sorted.dim(1), m = k.values.dim(1);
  parallel_ranges(k.values.count(), 1024, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at++) {
      const T* row = k.sorted.as<T>() + at / m * n;
      const T value = k.values.as<T>()[at];
      int64_t low = 0, high = n;
      while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (Right ? row[middle] <= value : row[middle] < value) low = middle + 1;
        else high = middle;
      }
      k.y.i32()[at] = static_cast<int32_t>(high);
    }
  });
}

void run(const SearchSorted& k) {
  if (k.sorted.dtype == DType::f32) k.right ? search<float, true>(k) : search<float, false>(k);
  else k.right ? search<int32_t, true>(k) : search<int32_t, false>(k);
}

}  // namespace simmim::SIMMIM_ISA
