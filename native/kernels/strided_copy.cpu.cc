#include "strided_copy.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

namespace {

constexpr int64_t kGrain = 1 << 15;
constexpr int64_t kTile = 16;

/// Walks the positions of the first `rank` dims of a plan in row-major order.
struct Walker {
  const CopyPlan& p;
  int rank;
  int64_t at[Ints::kCapacity + 1], x = 0, y = 0;
  Walker(const CopyPlan& plan, int dims, int64_t index) : p(plan), rank(dims) {
    for (int i = rank - 1; i >= 0; i--) {
      at[i] = index % p.dims[i];
      index /= p.dims[i];
      x += at[i] * p.xs[i];
      y += at[i] * p.ys[i];
    }
  }
  SIMMIM_INLINE void next() {
    for (int i = rank - 1; i >= 0; i--) {
      x += p.xs[i];
      y += p.ys[i];
      if (++at[i] < p.dims[i]) return;
      at[i] = 0;
      x -= p.xs[i] * p.dims[i];
      y -= p.ys[i] * p.dims[i];
    }
  }
};

template <class T>
SIMMIM_INLINE void copy_row(const T* x, int64_t xs, T* y, int64_t ys, int64_t n) {
  if (xs == 1 && ys == 1) {
    if (n * sizeof(T) >= 64) __builtin_memcpy(y, x, n * sizeof(T));
    else
      for (int64_t i = 0; i < n; i++) y[i] = x[i];
  } else if (ys == 1 && xs == 0) {
    const T v = x[0];
    for (int64_t i = 0; i < n; i++) y[i] = v;
  } else if (ys == 1 && xs == -1) {
    for (int64_t i = 0; i < n; i++) y[i] = x[-i];
  } else if (ys == 1) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i * xs];
  } else {
    for (int64_t i = 0; i < n; i++) y[i * ys] = x[i * xs];
  }
}

/// Every row is the innermost dim.
template <class T>
void copy_rows(const CopyPlan& p, const T* x, T* y) {
  const int last = p.rank - 1;
  const int64_t n = p.dims[last], rows = p.count() / n;
  if (rows == 1) {
    parallel_ranges(n, kGrain, [&](int64_t begin, int64_t end) { copy_row(x + begin * p.xs[last], p.xs[last], y + begin * p.ys[last], p.ys[last], end - begin); });
    return;
  }
  parallel_ranges(rows, kGrain / n + 1, [&](int64_t begin, int64_t end) {
    Walker w(p, last, begin);
    for (int64_t r = begin; r < end; r++, w.next()) copy_row(x + w.x, p.xs[last], y + w.y, p.ys[last], n);
  });
}

/// A kTile x kTile (or smaller) block: x runs along a, y runs along b.
template <class T>
SIMMIM_INLINE void copy_tile(const T* x, int64_t x_step_b, T* y, int64_t y_step_a, int64_t a, int64_t b) {
  if (a == kTile && b == kTile) {
    T block[kTile][kTile];
    for (int64_t j = 0; j < kTile; j++) __builtin_memcpy(block[j], x + j * x_step_b, sizeof(block[j]));
    for (int64_t i = 0; i < kTile; i++) {
      T row[kTile];
      for (int64_t j = 0; j < kTile; j++) row[j] = block[j][i];
      __builtin_memcpy(y + i * y_step_a, row, sizeof(row));
    }
    return;
  }
  for (int64_t i = 0; i < a; i++)
    for (int64_t j = 0; j < b; j++) y[i * y_step_a + j] = x[j * x_step_b + i];
}

/// The innermost dim of y is `rank - 1`; x runs along dim `rank - 2` (moved there). Tiles over these two.
template <class T>
void copy_tiles(const CopyPlan& p, const T* x, T* y) {
  const int a = p.rank - 2, b = p.rank - 1;
  const int64_t tiles_a = (p.dims[a] + kTile - 1) / kTile, tiles_b = (p.dims[b] + kTile - 1) / kTile, outer = p.count() / (p.dims[a] * p.dims[b]);
  const int64_t strips = outer * tiles_a;
  parallel_ranges(strips, kGrain / (kTile * p.dims[b]) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t strip = begin; strip < end; strip++) {
      const Walker w(p, a, strip / tiles_a);
      const int64_t i = strip % tiles_a * kTile, height = p.dims[a] - i < kTile ? p.dims[a] - i : kTile;
      for (int64_t t = 0; t < tiles_b; t++) {
        const int64_t j = t * kTile, width = p.dims[b] - j < kTile ? p.dims[b] - j : kTile;
        copy_tile(x + w.x + i + j * p.xs[b], p.xs[b], y + w.y + i * p.ys[a] + j, p.ys[a], height, width);
      }
    }
  });
}

template <class T>
void copy(const StridedCopy& k) {
  CopyPlan p = copy_plan(k);
  if (p.count() == 0) return;
  const T* x = k.x.as<T>() + k.x_offset;
  T* y = k.y.as<T>() + k.y_offset;
  const int last = p.rank - 1;
  int run = -1;  // the dim along which x runs
  for (int i = 0; i < last; i++)
    if (p.xs[i] == 1) run = i;
  if (p.ys[last] != 1 || p.xs[last] == 1 || p.xs[last] == 0 || run < 0 || p.dims[run] < 4 || p.dims[last] < 4) return copy_rows(p, x, y);
  const int64_t d = p.dims[run], s = p.xs[run], t = p.ys[run];
  const int64_t bd = p.dims[last], bs = p.xs[last], bt = p.ys[last];
  p.remove(run);
  p.dims[p.rank] = bd, p.xs[p.rank] = bs, p.ys[p.rank] = bt;
  p.dims[p.rank - 1] = d, p.xs[p.rank - 1] = s, p.ys[p.rank - 1] = t;
  p.rank++;
  copy_tiles(p, x, y);
}

}  // namespace

void run(const StridedCopy& k) {
  switch (size_of(k.x.dtype)) {
    case 1: return copy<uint8_t>(k);
    case 2: return copy<uint16_t>(k);
    default: return copy<uint32_t>(k);
  }
}

}  // namespace simmim::SIMMIM_ISA
