#include "bincount.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

namespace {

/// Counts of the numbers [begin, end) of row r; whole numbers unless there are float weights.
template <class T>
void count_piece(const Bincount& k, int64_t r, int64_t begin, int64_t end, T* counts) {
  const int64_t bins = k.y.dim(1), n = k.x.dim(1);
  const int32_t* x = k.x.i32() + r * n;
  const T* weights = k.weights.present() ? k.weights.as<T>() + r * n : nullptr;
  for (int64_t v = 0; v < bins; v++) counts[v] = 0;
  const auto each = [&](const auto& count) {
    for (int64_t i = begin; i < end; i++)
      if (static_cast<uint32_t>(x[i]) < static_cast<uint64_t>(bins)) count(counts[x[i]], i);
  };
  if (k.binary) each([](T& bin, int64_t) { bin = 1; });
  else if (weights) each([&](T& bin, int64_t i) { bin += weights[i]; });
  else each([](T& bin, int64_t) { bin += 1; });
}

template <class T>
void count_all(const Bincount& k) {
  const int64_t rows = k.x.dim(0), n = k.x.dim(1), bins = k.y.dim(1), pieces = k.pieces(), each = (n + pieces - 1) / pieces;
  T* partial = static_cast<T*>(k.workspace);  // [R, pieces, S]
  parallel_ranges(rows * pieces, pieces > 1 ? 1 : 16384 / (n + bins + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; item++) {
      const int64_t from = item % pieces * each, to = from + each < n ? from + each : n;
      count_piece(k, item / pieces, from, to, partial + item * bins);
    }
  });
  parallel_ranges(rows * bins, 16384 / pieces + 1, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at++) {
      const T* counts = partial + at / bins * pieces * bins + at % bins;
      T total = counts[0];
      for (int64_t p = 1; p < pieces; p++) total = k.binary ? (total > counts[p * bins] ? total : counts[p * bins]) : static_cast<T>(total + counts[p * bins]);
      if (k.y.dtype == DType::f32) k.y.f32()[at] = static_cast<float>(total);
      else k.y.i32()[at] = static_cast<int32_t>(total);
    }
  });
}

}  // namespace

void run(const Bincount& k) {
  if (k.weights.present() && k.weights.dtype == DType::f32) count_all<float>(k);
  else count_all<int32_t>(k);
}

}  // namespace simmim::SIMMIM_ISA
