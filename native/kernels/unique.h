// The different slices x[:, n, :], in the order in which they first occur: first[u] is the n where slice u occurs first, index[n]
// the u of slice n, both of N entries, `count` of first in use. NaN equals NaN and -0 equals 0.
// Slices are hashed in parallel and then entered into a table one after the other. Bytes: one read of x, and again those slices
// that meet in the table.
#pragma once
#include "../core/kernel.h"

namespace simmim {

struct Unique {
  static constexpr const char* name = "unique";
  Tensor x, index, first, count;  // [O, N, I], [N], [N], [1]
  void* workspace = nullptr;
  static constexpr auto spec() { return fields(in("x", &Unique::x, kF32 | kI32 | kU8), out("index", &Unique::index, kI32), out("first", &Unique::first, kI32), out("count", &Unique::count, kI32)); }
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
};

}  // namespace simmim
