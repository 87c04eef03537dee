#include "reduction.h"

#include "../cuda/launch.cuh"
#include "../cuda/reduce.cuh"
#include "scalar_ops.h"

namespace simmim::cuda {

namespace {

// A reducer: what it reads (In), what a thread holds over a short run of values (Short), and what runs, threads and
// pieces are combined in (Wide, 8 bytes).
struct SumFloats {
  using In = float;
  using Short = float;
  using Wide = double;
  static constexpr double zero = 0;
  static SIMMIM_DEVICE float join(float a, float x) { return a + x; }
  static SIMMIM_DEVICE double combine(double a, double b) { return a + b; }
  static SIMMIM_DEVICE float finish(double total, double scale) { return static_cast<float>(total * scale); }
};
struct MultiplyFloats : SumFloats {
  static constexpr double zero = 1;
  static SIMMIM_DEVICE float join(float a, float x) { return a * x; }
  static SIMMIM_DEVICE double combine(double a, double b) { return a * b; }
};
struct MaxFloats : SumFloats {
  static constexpr double zero = -__builtin_inf();
  static SIMMIM_DEVICE float join(float a, float x) { return Max{}(a, x); }
  static SIMMIM_DEVICE double combine(double a, double b) { return Max{}(a, b); }
};
struct MinFloats : SumFloats {
  static constexpr double zero = __builtin_inf();
  static SIMMIM_DEVICE float join(float a, float x) { return Min{}(a, x); }
  static SIMMIM_DEVICE double combine(double a, double b) { return Min{}(a, b); }
};
template <class T>
struct Exact {
  using In = T;
  using Short = int64_t;
  using Wide = int64_t;
  static SIMMIM_DEVICE T finish(int64_t total, double) { return static_cast<T>(total); }
};
struct SumIntegers : Exact<int32_t> {
  static constexpr int64_t zero = 0;
  static SIMMIM_DEVICE int64_t join(int64_t a, int64_t x) { return a + x; }
  static SIMMIM_DEVICE int64_t combine(int64_t a, int64_t b) { return a + b; }
};
template <class T>
struct Largest : Exact<T> {
  static SIMMIM_DEVICE int64_t join(int64_t a, int64_t x) { return x > a ? x : a; }
  static SIMMIM_DEVICE int64_t combine(int64_t a, int64_t b) { return join(a, b); }
};
template <class T>
struct Smallest : Exact<T> {
  static SIMMIM_DEVICE int64_t join(int64_t a, int64_t x) { return x < a ? x : a; }
  static SIMMIM_DEVICE int64_t combine(int64_t a, int64_t b) { return join(a, b); }
};
struct LargestInteger : Largest<int32_t> {
  static constexpr int64_t zero = -2147483647 - 1;
};
struct SmallestInteger : Smallest<int32_t> {
  static constexpr int64_t zero = 2147483647;
};
struct AllTrue : Smallest<uint8_t> {
  static constexpr int64_t zero = 1;
  static SIMMIM_DEVICE int64_t join(int64_t a, int64_t x) { return a != 0 && x != 0; }
};
struct AnyTrue : Largest<uint8_t> {
  static constexpr int64_t zero = 0;
  static SIMMIM_DEVICE int64_t join(int64_t a, int64_t x) { return a != 0 || x != 0; }
};

constexpr int kRun = 64;  // values that are joined in Short before they go to Wide: a long sum keeps float precision

/// Values x[begin], x[begin + step], ... below `end`.
template <class R>
SIMMIM_DEVICE typename R::Wide walk(const typename R::In* x, int64_t begin, int64_t end, int64_t step) {
  typename R::Wide total = R::zero;
  while (begin < end) {
    typename R::Short part = static_cast<typename R::Short>(R::zero);
    for (int i = 0; i < kRun && begin < end; i++, begin += step) part = R::join(part, x[begin]);
    total = R::combine(total, static_cast<typename R::Wide>(part));
  }
  return total;
}

template <class R>
struct Combine {
  SIMMIM_DEVICE typename R::Wide operator()(typename R::Wide a, typename R::Wide b) const { return R::combine(a, b); }
};

template <class R>
SIMMIM_DEVICE void put(typename R::Wide total, typename R::Wide* partial, typename R::In* y, int64_t at, double scale) {
  if (partial) partial[at] = total;
  else y[at] = R::finish(total, scale);
}

/// One block per piece of a row of n neighbouring values: pieces of row o are items o * pieces ...
template <class R>
__global__ void reduce_rows(const typename R::In* x, int64_t n, int64_t pieces, int64_t items, typename R::Wide* partial, typename R::In* y, double scale) {
  __shared__ typename R::Wide scratch[kWarpSize];
  const int64_t size = (n + pieces - 1) / pieces;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t begin = item % pieces * size, end = begin + size < n ? begin + size : n;
    const typename R::Wide mine = walk<R>(x + item / pieces * n, begin + threadIdx.x, end, blockDim.x);
    const typename R::Wide total = block_reduce(mine, Combine<R>{}, static_cast<typename R::Wide>(R::zero), scratch);
    if (threadIdx.x == 0) put<R>(total, partial, y, item, scale);
  }
}

/// One warp per short row.
template <class R>
__global__ void reduce_short_rows(const typename R::In* x, int64_t n, int64_t rows, typename R::In* y, double scale) {
  const int64_t warps = global_threads() / kWarpSize;
  for (int64_t row = global_thread() / kWarpSize; row < rows; row += warps) {
    const typename R::Wide total = warp_reduce(walk<R>(x + row * n, threadIdx.x % kWarpSize, n, kWarpSize), Combine<R>{});
    if (threadIdx.x % kWarpSize == 0) put<R>(total, nullptr, y, row, scale);
  }
}

/// One thread per column of a piece of rows: x [O, N, I], items (o, piece, i).
template <class R>
struct ReduceColumns {
  const typename R::In* x;
  int64_t n, inner, pieces;
  typename R::Wide* partial;
  typename R::In* y;
  double scale;
  __device__ void operator()(int64_t item) const {
    const int64_t i = item % inner, piece = item / inner % pieces, o = item / inner / pieces, size = (n + pieces - 1) / pieces;
    const int64_t begin = piece * size, end = begin + size < n ? begin + size : n;
    put<R>(walk<R>(x + o * n * inner + i, begin * inner, end * inner, inner), partial, y, item, scale);
  }
};

/// partial [O, pieces, I] to y [O, I], piece after piece.
template <class R>
struct CombinePieces {
  const typename R::Wide* partial;
  int64_t pieces, inner;
  typename R::In* y;
  double scale;
  __device__ void operator()(int64_t at) const {
    typename R::Wide total = R::zero;
    for (int64_t p = 0; p < pieces; p++) total = R::combine(total, partial[(at / inner * pieces + p) * inner + at % inner]);
    y[at] = R::finish(total, scale);
  }
};

template <class R>
void reduce(const Reduce& k, Stream& stream, double scale = 1) {
  using In = typename R::In;
  using Wide = typename R::Wide;
  const int64_t outer = k.x.dim(0), n = k.x.dim(1), inner = k.x.dim(2), pieces = k.cuda_pieces();
  if (outer * inner == 0) return;
  const In* x = k.x.as<In>();
  In* y = k.y.as<In>();
  Wide* partial = pieces > 1 ? static_cast<Wide*>(k.workspace) : nullptr;
  if (inner > 1) {
    for_each(stream, outer * pieces * inner, ReduceColumns<R>{x, n, inner, pieces, partial, y, scale});
  } else if (n <= 1024) {
    launch(stream, &reduce_short_rows<R>, grid_for(stream, outer * kWarpSize), x, n, outer, y, scale);
  } else {
    const int64_t items = outer * pieces, most = static_cast<int64_t>(stream.multiprocessors) * 16;
    launch(stream, &reduce_rows<R>, Grid{dim3(static_cast<unsigned>(items < most ? items : most)), dim3(kThreads)}, x, n, pieces, items, partial, y, scale);
  }
  if (partial) for_each(stream, outer * inner, CombinePieces<R>{partial, pieces, inner, y, scale});
}

/// Products of integers can leave the range of exact doubles, so the order counts: one thread each.
struct MultiplyIntegers {
  const int32_t* x;
  int32_t* y;
  int64_t n, inner;
  __device__ void operator()(int64_t at) const {
    double total = 1;
    for (int64_t r = 0; r < n; r++) total *= x[(at / inner * n + r) * inner + at % inner];
    y[at] = to_int32(total);
  }
};

/// The first best value so far and where it is; NaN never wins, but at place 0 it stays, as in a walk from there.
template <class T>
struct Best {
  T value;
  int64_t at;
};
template <class T>
SIMMIM_DEVICE bool wins(bool smallest, T x, T over) { return smallest ? x < over : x > over; }

template <class T>
struct Better {
  bool smallest;
  SIMMIM_DEVICE Best<T> operator()(Best<T> a, Best<T> b) const {
    if (b.at < 0) return a;
    if (a.at < 0) return b;
    if (a.at > b.at) {
      const Best<T> c = a;
      a = b;
      b = c;
    }
    return (a.value != a.value && a.at > 0) || wins(smallest, b.value, a.value) ? b : a;
  }
};

template <class T>
SIMMIM_DEVICE Best<T> best_of(const T* x, int64_t begin, int64_t n, int64_t step, int64_t stride, const Better<T>& better) {
  Best<T> best{T{}, -1};
  for (int64_t r = begin; r < n; r += step) best = better(best, Best<T>{x[r * stride], r});
  return best;
}

/// One warp per row.
template <class T>
__global__ void arg_reduce_rows(const T* x, int64_t n, int64_t rows, int32_t* y, Better<T> better) {
  const int64_t warps = global_threads() / kWarpSize;
  for (int64_t row = global_thread() / kWarpSize; row < rows; row += warps) {
    const Best<T> best = best_of(x + row * n, static_cast<int64_t>(threadIdx.x % kWarpSize), n, kWarpSize, 1, better);
    T value = best.value;
    int64_t at = best.at;
    for (int step = kWarpSize / 2; step > 0; step /= 2) {
      const Best<T> other{static_cast<T>(__shfl_xor_sync(kAllLanes, value, step)), __shfl_xor_sync(kAllLanes, at, step)};
      const Best<T> both = better(Best<T>{value, at}, other);
      value = both.value;
      at = both.at;
    }
    if (threadIdx.x % kWarpSize == 0) y[row] = static_cast<int32_t>(at < 0 ? 0 : at);
  }
}

template <class T>
struct ArgReduceColumns {
  const T* x;
  int32_t* y;
  int64_t n, inner;
  Better<T> better;
  __device__ void operator()(int64_t i) const {
    const Best<T> best = best_of(x + i / inner * n * inner + i % inner, 0, n, 1, inner, better);
    y[i] = static_cast<int32_t>(best.at < 0 ? 0 : best.at);
  }
};

template <class T>
void arg_reduce(const ArgReduce& k, Stream& stream) {
  const int64_t outer = k.x.dim(0), n = k.x.dim(1), inner = k.x.dim(2);
  if (k.y.count() == 0) return;
  const Better<T> better{k.smallest};
  if (inner == 1) launch(stream, &arg_reduce_rows<T>, grid_for(stream, outer * kWarpSize), k.x.as<T>(), n, outer, k.y.i32(), better);
  else for_each(stream, k.y.count(), ArgReduceColumns<T>{k.x.as<T>(), k.y.i32(), n, inner, better});
}

void reduce_integers(const Reduce& k, Stream& stream) {
  switch (k.op) {
    case Reduce::sum: return reduce<SumIntegers>(k, stream);
    case Reduce::prod: return for_each(stream, k.y.count(), MultiplyIntegers{k.x.i32(), k.y.i32(), k.x.dim(1), k.x.dim(2)});
    case Reduce::max: return reduce<LargestInteger>(k, stream);
    default: return reduce<SmallestInteger>(k, stream);
  }
}

}  // namespace

void run(const Reduce& k, Stream& stream) {
  if (k.x.dtype == DType::i32) return reduce_integers(k, stream);
  switch (k.op) {
    case Reduce::sum: return reduce<SumFloats>(k, stream);
    case Reduce::mean: return reduce<SumFloats>(k, stream, 1.0 / static_cast<double>(k.x.dim(1)));
    case Reduce::max: return reduce<MaxFloats>(k, stream);
    case Reduce::min: return reduce<MinFloats>(k, stream);
    case Reduce::prod: return reduce<MultiplyFloats>(k, stream);
    case Reduce::all: return reduce<AllTrue>(k, stream);
    case Reduce::any: return reduce<AnyTrue>(k, stream);
  }
}

void run(const ArgReduce& k, Stream& stream) {
  switch (k.x.dtype) {
    case DType::f32: return arg_reduce<float>(k, stream);
    case DType::i32: return arg_reduce<int32_t>(k, stream);
    default: return arg_reduce<uint8_t>(k, stream);
  }
}

}  // namespace simmim::cuda
