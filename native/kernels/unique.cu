#include "unique.h"

#include "../cuda/bisect.cuh"
#include "../cuda/running_sum.cuh"
#include "../cuda/sort.cuh"

namespace simmim::cuda {

namespace {

/// Keys that sort slices by hash, and by number where hashes are equal.
template <class T>
struct MakeKeys {
  Slices<T> slices;
  uint64_t* keys;
  __device__ void operator()(int64_t n) const { keys[n] = n < slices.count ? static_cast<uint64_t>(slices.hash(n)) << 32 | static_cast<uint64_t>(n) : kLastKey; }
};

/// For each slice the first one that it equals, itself where it is new: that is among those of its hash, usually the first.
template <class T>
struct FindFirst {
  Slices<T> slices;
  const uint64_t* keys;
  int32_t* same_as;  // [N]
  __device__ void operator()(int64_t i) const {
    const int64_t own = static_cast<int64_t>(keys[i] & 0xffffffffu);
    const uint64_t run = keys[i] >> 32 << 32;
    int64_t at = first_not(i, [&](int64_t n) { return keys[n] < run; });
    while (at < i && !slices.equal(static_cast<int64_t>(keys[at] & 0xffffffffu), own)) at++;
    same_as[own] = static_cast<int32_t>(keys[at] & 0xffffffffu);
  }
};

/// New slices are numbered in order.
struct NumberNew {
  const int32_t* same_as;
  int32_t *numbers, *first, *count;
  int64_t n;
  SIMMIM_DEVICE bool is_new(int64_t i) const { return same_as[i] == i; }
  SIMMIM_DEVICE int64_t value(int64_t i) const { return is_new(i); }
  SIMMIM_DEVICE void put(int64_t i, int64_t before) const {
    if (i == n) {
      *count = static_cast<int32_t>(before);
    } else if (is_new(i)) {
      numbers[i] = static_cast<int32_t>(before);
      first[before] = static_cast<int32_t>(i);
    }
  }
};

struct TakeNumbers {
  const int32_t *same_as, *numbers;
  int32_t* index;
  __device__ void operator()(int64_t i) const { index[i] = numbers[same_as[i]]; }
};

template <class T>
void find_unique(const Unique& k, Stream& stream) {
  const Slices<T> slices{k.x.as<T>(), k.x.dim(0), k.x.dim(1), k.x.dim(2)};
  const int64_t n = slices.count, padded = k.cuda_keys();
  auto* keys = static_cast<uint64_t*>(k.workspace);
  int32_t *same_as = reinterpret_cast<int32_t*>(keys + padded), *numbers = same_as + n;
  if (n > 0) SIMMIM_CUDA_CALL(cudaMemsetAsync(k.first.data, 0, k.first.bytes(), stream.handle));
  for_each(stream, padded, MakeKeys<T>{slices, keys});
  sort_rows(stream, keys, 1, padded);
  for_each(stream, n, FindFirst<T>{slices, keys, same_as});
  running_sum(stream, n, NumberNew{same_as, numbers, k.first.i32(), k.count.i32(), n});
  for_each(stream, n, TakeNumbers{same_as, numbers, k.index.i32()});
}

}  // namespace

void run(const Unique& k, Stream& stream) {
  switch (k.x.dtype) {
    case DType::f32: return find_unique<float>(k, stream);
    case DType::i32: return find_unique<int32_t>(k, stream);
    default: return find_unique<uint8_t>(k, stream);
  }
}

}  // namespace simmim::cuda
