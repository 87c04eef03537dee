#include "scan.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

namespace {

template <class T, class Join>
void scan_column(const T* x, T* y, int64_t n, int64_t step, bool exclusive, T start, const Join& join) {
  T running = start;
  for (int64_t i = 0; i < n; i++) {
    const T value = x[i * step];
    if (exclusive) y[i * step] = running;
    running = join(running, value);
    if (!exclusive) y[i * step] = running;
  }
}

template <class T>
void scan_all(const Scan& k) {
  const int64_t n = k.x.dim(1), inner = k.x.dim(2);
  if (n == 0) return;
  parallel_ranges(k.x.dim(0) * inner, 16384 / n + 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c++) {
      int64_t at = c / inner * n * inner + c % inner, step = inner;
      if (k.reverse) at += (n - 1) * inner, step = -inner;
      if (k.product) scan_column(k.x.as<T>() + at, k.y.as<T>() + at, n, step, k.exclusive, T{1}, [](T a, T b) { return static_cast<T>(a * b); });
      else scan_column(k.x.as<T>() + at, k.y.as<T>() + at, n, step, k.exclusive, T{0}, [](T a, T b) { return static_cast<T>(a + b); });
    }
  });
}

}  // namespace

void run(const Scan& k) {
  if (k.x.dtype == DType::f32) scan_all<float>(k);
  else scan_all<uint32_t>(k);
}

}  // namespace simmim::SIMMIM_ISA
