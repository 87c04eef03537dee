#include "scan.h"

#include "../cuda/launch.cuh"

namespace simmim::cuda {

namespace {

template <class T>
struct Running {
  const T* x;
  T* y;
  int64_t n, inner;
  bool product, exclusive, reverse;
  SIMMIM_DEVICE T zero() const { return product ? T{1} : T{0}; }
  SIMMIM_DEVICE T join(T a, T b) const { return product ? static_cast<T>(a * b) : static_cast<T>(a + b); }
  /// Where value number i of a column is, counted in the direction of the scan.
  SIMMIM_DEVICE int64_t place(int64_t column, int64_t i) const { return (column / inner * n + (reverse ? n - 1 - i : i)) * inner + column % inner; }
};

/// One thread per column.
template <class T>
struct ScanColumn {
  Running<T> k;
  __device__ void operator()(int64_t column) const {
    T running = k.zero();
    for (int64_t i = 0; i < k.n; i++) {
      const int64_t at = k.place(column, i);
      const T before = running;
      running = k.join(running, k.x[at]);
      k.y[at] = k.exclusive ? before : running;
    }
  }
};

/// The joined values of the lanes up to this one.
template <class T>
SIMMIM_DEVICE T warp_scan(T value, const Running<T>& k) {
  for (int step = 1; step < kWarpSize; step *= 2) {
    const T other = __shfl_up_sync(kAllLanes, value, static_cast<unsigned>(step));
    if (static_cast<int>(threadIdx.x % kWarpSize) >= step) value = k.join(other, value);
  }
  return value;
}

/// One block per long column, kThreads values a turn.
template <class T>
__global__ void scan_long_columns(Running<T> k, int64_t columns) {
  __shared__ T totals[kWarpSize];
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  for (int64_t column = blockIdx.x; column < columns; column += gridDim.x) {
    T carry = k.zero();
    for (int64_t begin = 0; begin < k.n; begin += kThreads) {
      const int64_t i = begin + threadIdx.x;
      const T own = i < k.n ? k.x[k.place(column, i)] : k.zero();
      const T inclusive = warp_scan(own, k);
      T before = __shfl_up_sync(kAllLanes, inclusive, 1u);
      if (lane == 0) before = k.zero();
      if (lane == kWarpSize - 1) totals[warp] = inclusive;
      __syncthreads();
      T offset = carry;
      for (int w = 0; w < warp; w++) offset = k.join(offset, totals[w]);
      if (i < k.n) k.y[k.place(column, i)] = k.join(offset, k.exclusive ? before : inclusive);
      for (int w = 0; w < static_cast<int>(kThreads) / kWarpSize; w++) carry = k.join(carry, totals[w]);
      __syncthreads();
    }
  }
}

template <class T>
void scan(const Scan& k, Stream& stream) {
  const int64_t n = k.x.dim(1), columns = k.x.dim(0) * k.x.dim(2);
  if (columns * n == 0) return;
  const Running<T> running{k.x.as<T>(), k.y.as<T>(), n, k.x.dim(2), k.product, k.exclusive, k.reverse};
  if (n <= 64 || columns >= 8192) return for_each(stream, columns, ScanColumn<T>{running});
  launch(stream, &scan_long_columns<T>, grid_for(stream, columns * kThreads), running, columns);
}

}  // namespace

void run(const Scan& k, Stream& stream) {
  if (k.x.dtype == DType::f32) scan<float>(k, stream);
  else scan<uint32_t>(k, stream);
}

}  // namespace simmim::cuda
