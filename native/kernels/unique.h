// The different slices x[:, n, :], in the order in which they first occur: first[u] is the n where slice u occurs first, index[n]
// the u of slice n, both of N entries, `count` of first in use. NaN equals NaN and -0 equals 0.
// Slices are hashed in parallel and then entered into a table one after the other; a GPU sorts the hashes instead and compares
// slices of equal ones. Bytes: one read of x, and again those slices that meet in the table.
#pragma once
#include "../core/spec.h"
#include "sorted_rows.h"

namespace simmim {

/// The slices x[:, n, :] of x [O, N, I].
template <class T>
struct Slices {
  const T* x;
  int64_t outer, count, inner;

  /// A value as bits that are equal where the values count as equal.
  static SIMMIM_INLINE uint32_t bits_of(T v) {
    if constexpr (__is_same(T, float)) return v != v ? 0x7fc00000u : v == 0 ? 0u : __builtin_bit_cast(uint32_t, v);
    else return static_cast<uint32_t>(v);
  }
  SIMMIM_INLINE const T* part(int64_t o, int64_t n) const { return x + (o * count + n) * inner; }
  SIMMIM_INLINE uint32_t hash(int64_t n) const {
    uint64_t h = 0x9e3779b97f4a7c15u;
    for (int64_t o = 0; o < outer; o++)
      for (int64_t i = 0; i < inner; i++) {
        h = (h ^ bits_of(part(o, n)[i])) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
      }
    return static_cast<uint32_t>(h);
  }
  SIMMIM_INLINE bool equal(int64_t n, int64_t m) const {
    for (int64_t o = 0; o < outer; o++)
      for (int64_t i = 0; i < inner; i++)
        if (bits_of(part(o, n)[i]) != bits_of(part(o, m)[i])) return false;
    return true;
  }
};

struct Unique {
  static constexpr const char* name = "unique";
  Tensor x, index, first, count;  // [O, N, I], [N], [N], [1]
  void* workspace = nullptr;
  static auto spec() { return fields(in("x", &Unique::x, kF32 | kI32 | kU8), out("index", &Unique::index, kI32), out("first", &Unique::first, kI32), out("count", &Unique::count, kI32)); }
  void check() const {
    require(x.shape.rank == 3, "x has rank %d, expected 3: outer, slices, inner", x.shape.rank);
    require(index.count() == x.dim(1) && first.count() == x.dim(1) && count.count() == 1, "index and first have %lld and %lld values, expected %lld", static_cast<long long>(index.count()), static_cast<long long>(first.count()), static_cast<long long>(x.dim(1)));
  }
  /// Places of the table: a power of two, at least half of them free.
  SIMMIM_INLINE int64_t places() const {
    int64_t n = 16;
    while (n < 2 * x.dim(1)) n *= 2;
    return n;
  }
  size_t workspace_bytes() const { return static_cast<size_t>(x.dim(1) + places()) * 4; }
  /// A GPU's sorted hashes, and two numbers of each slice.
  SIMMIM_INLINE int64_t cuda_keys() const { return power_of_two_from(x.dim(1)); }
  size_t cuda_workspace_bytes() const { return static_cast<size_t>(cuda_keys() + x.dim(1)) * 8; }
};

}  // namespace simmim
