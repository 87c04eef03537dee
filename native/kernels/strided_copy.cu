#include "strided_copy.h"

#include "../cuda/divide.cuh"
#include "../cuda/launch.cuh"

namespace simmim::cuda {

namespace {

template <class T>
struct CopyElements {
  const T* x;
  T* y;
  Places<2> places;
  __device__ void operator()(int64_t i) const {
    int64_t at[2];
    places.find(i, at);
    y[at[1]] = x[at[0]];
  }
};

Places<2> places_of(const CopyPlan& p, int rank) {
  Places<2> places;
  for (int d = 0; d < rank; d++) places.add(p.dims[d], {p.xs[d], p.ys[d]});
  return places;
}

template <class T>
void copy_elements(At at, const CopyPlan& p, const T* x, T* y) {
  CopyElements<T> copy{x, y, places_of(p, p.rank)};
  copy.places.wide = p.count() >= (int64_t{1} << 31);
  for_each(at, p.count(), copy);
}

constexpr int kTile = 32, kTileRows = 8;  // threads of a block: kTile x kTileRows

/// Transposes tiles through shared memory: x runs along `across` values, y along `down` values; the other dims are `outer`.
/// blockIdx.x counts tiles along y's run, blockIdx.y along x's, blockIdx.z the outer positions.
template <class T>
__global__ void copy_tiles(const T* x, T* y, Places<2> outer, int64_t outer_count, int64_t across, int64_t down, int64_t x_step, int64_t y_step) {
  __shared__ T tile[kTile][kTile + 1];
  const int64_t a0 = static_cast<int64_t>(blockIdx.y) * kTile, d0 = static_cast<int64_t>(blockIdx.x) * kTile;
  for (int64_t o = blockIdx.z; o < outer_count; o += gridDim.z) {
    int64_t at[2];
    outer.find(o, at);
    __syncthreads();
    for (int r = threadIdx.y; r < kTile; r += kTileRows)
      if (d0 + r < down && a0 + threadIdx.x < across) tile[r][threadIdx.x] = x[at[0] + (d0 + r) * x_step + a0 + threadIdx.x];
    __syncthreads();
    for (int r = threadIdx.y; r < kTile; r += kTileRows)
      if (a0 + r < across && d0 + threadIdx.x < down) y[at[1] + (a0 + r) * y_step + d0 + threadIdx.x] = tile[threadIdx.x][r];
  }
}

/// The dim along which x runs while y runs along the last one, if transposing tiles is worth it; else -1.
int run_of(const CopyPlan& p) {
  const int last = p.rank - 1;
  if (p.ys[last] != 1 || p.xs[last] == 1 || p.xs[last] == 0 || p.dims[last] < 8) return -1;
  for (int i = 0; i < last; i++)
    if (p.xs[i] == 1 && p.dims[i] >= 8) return (p.dims[i] + kTile - 1) / kTile <= 65535 ? i : -1;
  return -1;
}

template <class T>
void copy(At at, const CopyPlan& p, const T* x, T* y) {
  const int run = run_of(p), last = p.rank - 1;
  if (run < 0) return copy_elements(at, p, x, y);
  const int64_t across = p.dims[run], down = p.dims[last], y_step = p.ys[run], x_step = p.xs[last];
  CopyPlan outer = p;
  outer.remove(last);
  outer.remove(run);
  const int64_t outer_count = outer.count();
  Places<2> places = places_of(outer, outer.rank);
  places.wide = outer_count >= (int64_t{1} << 31);
  const dim3 blocks(static_cast<unsigned>((down + kTile - 1) / kTile), static_cast<unsigned>((across + kTile - 1) / kTile), static_cast<unsigned>(outer_count < 16384 ? outer_count : 16384));
  launch(at, &copy_tiles<T>, Grid{blocks, dim3(kTile, kTileRows)}, x, y, places, outer_count, across, down, x_step, y_step);
}

/// Whether runs of `n` elements can be copied as one: all strides, offsets and addresses are multiples of it.
bool in_units(const CopyPlan& p, const void* x, const void* y, int64_t n, size_t size) {
  const int last = p.rank - 1;
  if (p.xs[last] != 1 || p.ys[last] != 1 || p.dims[last] % n != 0) return false;
  for (int i = 0; i < last; i++)
    if (p.xs[i] % n != 0 || p.ys[i] % n != 0) return false;
  const uintptr_t unit = static_cast<uintptr_t>(n) * size;
  return reinterpret_cast<uintptr_t>(x) % unit == 0 && reinterpret_cast<uintptr_t>(y) % unit == 0;
}

template <class T>
void copy_any(const StridedCopy& k, Stream& stream) {
  CopyPlan p = copy_plan(k);
  if (p.count() == 0) return;
  const T* x = k.x.as<T>() + k.x_offset;
  T* y = k.y.as<T>() + k.y_offset;
  constexpr int64_t n = 16 / sizeof(T);
  if (!in_units(p, x, y, n, sizeof(T))) return copy(stream, p, x, y);
  const int last = p.rank - 1;
  p.dims[last] /= n;
  for (int i = 0; i < last; i++) p.xs[i] /= n, p.ys[i] /= n;
  copy_elements(stream, p, reinterpret_cast<const uint4*>(x), reinterpret_cast<uint4*>(y));
}

}  // namespace

void run(const StridedCopy& k, Stream& stream) {
  switch (size_of(k.x.dtype)) {
    case 1: return copy_any<uint8_t>(k, stream);
    case 2: return copy_any<uint16_t>(k, stream);
    default: return copy_any<uint32_t>(k, stream);
  }
}

}  // namespace simmim::cuda
