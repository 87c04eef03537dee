#include "reduction.h"

#include "../cpu/thread_pool.h"
#include "elementary.h"

namespace simmim::SIMMIM_ISA {

namespace {

// A reducer: `zero` starts, `join` adds one value to a running one. Sums run in T over blocks of kShort values and in
// Wide across blocks; the others need no second stage but use the same code.
struct SumF {
  using T = float;
  static constexpr float zero = 0;
  static SIMMIM_INLINE Vec join(Vec a, Vec x) { return a + x; }
  static SIMMIM_INLINE double widen(double a, double x) { return a + x; }
};
struct ProdF {
  using T = float;
  static constexpr float zero = 1;
  static SIMMIM_INLINE Vec join(Vec a, Vec x) { return a * x; }
  static SIMMIM_INLINE double widen(double a, double x) { return a * x; }
};
struct MaxF {
  using T = float;
  static constexpr float zero = -__builtin_inff();
  static SIMMIM_INLINE Vec join(Vec a, Vec x) { return select((x > a) | (x != x), x, a); }
  static SIMMIM_INLINE double widen(double a, double x) { return x > a || x != x ? x : a; }
};
struct MinF {
  using T = float;
  static constexpr float zero = __builtin_inff();
  static SIMMIM_INLINE Vec join(Vec a, Vec x) { return select((x < a) | (x != x), x, a); }
  static SIMMIM_INLINE double widen(double a, double x) { return x < a || x != x ? x : a; }
};

constexpr int64_t kShort = 64 * kLanes;

/// One value from n contiguous floats.
template <class R>
double reduce_row(const float* x, int64_t n) {
  double total = R::zero;
  for (int64_t begin = 0; begin < n; begin += kShort) {
    const int64_t end = begin + kShort < n ? begin + kShort : n;
    Vec a = splat(R::zero), b = a, c = a, d = a;
    int64_t i = begin;
    for (; i + 4 * kLanes <= end; i += 4 * kLanes) {
      a = R::join(a, load(x + i));
      b = R::join(b, load(x + i + kLanes));
      c = R::join(c, load(x + i + 2 * kLanes));
      d = R::join(d, load(x + i + 3 * kLanes));
    }
    for (; i + kLanes <= end; i += kLanes) a = R::join(a, load(x + i));
    if (i < end) b = R::join(b, load_n(x + i, static_cast<int>(end - i), R::zero));
    const Vec v = R::join(R::join(a, b), R::join(c, d));
    for (int lane = 0; lane < kLanes; lane++) total = R::widen(total, v[lane]);
  }
  return total;
}

/// Columns [from, from + width) of n rows of `inner` floats into `totals`; width is at most kColumns.
constexpr int64_t kColumns = 256;
template <class R>
void reduce_columns(const float* x, int64_t n, int64_t inner, int64_t width, double* totals) {
  float part[kColumns];
  for (int64_t c = 0; c < width; c++) totals[c] = R::zero;
  for (int64_t begin = 0; begin < n; begin += 64) {
    const int64_t end = begin + 64 < n ? begin + 64 : n;
    for (int64_t c = 0; c < width; c++) part[c] = R::zero;
    for (int64_t r = begin; r < end; r++) {
      const float* row = x + r * inner;
      int64_t c = 0;
      for (; c + kLanes <= width; c += kLanes) store(part + c, R::join(load(part + c), load(row + c)));
      if (c < width) {
        const int rest = static_cast<int>(width - c);
        store_n(part + c, R::join(load_n(part + c, rest), load_n(row + c, rest)), rest);
      }
    }
    for (int64_t c = 0; c < width; c++) totals[c] = R::widen(totals[c], part[c]);
  }
}

/// y (double) [I] from rows of x [N, I].
template <class R>
void reduce_block(const float* x, int64_t n, int64_t inner, double* y) {
  if (inner == 1) {
    y[0] = reduce_row<R>(x, n);
    return;
  }
  for (int64_t c = 0; c < inner; c += kColumns) reduce_columns<R>(x + c, n, inner, inner - c < kColumns ? inner - c : kColumns, y + c);
}

template <class R>
void reduce_in_pieces(const Reduce& k, double scale) {
  const int64_t outer = k.x.dim(0), n = k.x.dim(1), inner = k.x.dim(2), pieces = k.pieces();
  const int64_t rows = (n + pieces - 1) / pieces;
  double* partial = static_cast<double*>(k.workspace);  // [O, pieces, I]
  parallel_for(outer * pieces, [&](int64_t item) {
    const int64_t o = item / pieces, begin = item % pieces * rows, end = begin + rows < n ? begin + rows : n;
    reduce_block<R>(k.x.f32() + (o * n + begin) * inner, end > begin ? end - begin : 0, inner, partial + item * inner);
  });
  for (int64_t o = 0; o < outer; o++)
    for (int64_t i = 0; i < inner; i++) {
      double total = R::zero;
      for (int64_t p = 0; p < pieces; p++) total = R::widen(total, partial[(o * pieces + p) * inner + i]);
      k.y.f32()[o * inner + i] = static_cast<float>(total * scale);
    }
}

template <class R>
void reduce_floats(const Reduce& k, double scale = 1) {
  if (k.pieces() > 1) return reduce_in_pieces<R>(k, scale);
  const int64_t outer = k.x.dim(0), n = k.x.dim(1), inner = k.x.dim(2);
  if (inner == 1) {
    parallel_ranges(outer, n < 16384 ? 16384 / (n + 1) + 1 : 1, [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; o++) k.y.f32()[o] = static_cast<float>(reduce_row<R>(k.x.f32() + o * n, n) * scale);
    });
    return;
  }
  const int64_t bands = (inner + kColumns - 1) / kColumns;
  const int64_t work = n * (inner < kColumns ? inner : kColumns);
  parallel_ranges(outer * bands, work < 16384 ? 16384 / (work + 1) + 1 : 1, [&](int64_t begin, int64_t end) {
    double totals[kColumns];
    for (int64_t item = begin; item < end; item++) {
      const int64_t o = item / bands, c = item % bands * kColumns, width = inner - c < kColumns ? inner - c : kColumns;
      reduce_columns<R>(k.x.f32() + o * n * inner + c, n, inner, width, totals);
      for (int64_t i = 0; i < width; i++) k.y.f32()[o * inner + c + i] = static_cast<float>(totals[i] * scale);
    }
  });
}

/// Integers and bools: each output walks its own column; Acc holds the exact value.
template <class T, class Acc, class Join, class Done>
void reduce_scalars(const Reduce& k, Acc zero, const Join& join, const Done& done) {
  const int64_t n = k.x.dim(1), inner = k.x.dim(2);
  const T* x = k.x.as<T>();
  T* y = k.y.as<T>();
  parallel_ranges(k.y.count(), n < 16384 ? 16384 / (n + 1) + 1 : 1, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at++) {
      const T* column = x + at / inner * n * inner + at % inner;
      Acc total = zero;
      for (int64_t r = 0; r < n; r++) total = join(total, column[r * inner]);
      y[at] = done(total);
    }
  });
}

void reduce_integers(const Reduce& k) {
  const auto same = [](int32_t v) { return v; };
  switch (k.op) {
    case Reduce::sum: return reduce_scalars<int32_t>(k, int64_t{0}, [](int64_t a, int32_t x) { return a + x; }, [](int64_t v) { return static_cast<int32_t>(v); });
    case Reduce::prod: return reduce_scalars<int32_t>(k, 1.0, [](double a, int32_t x) { return a * x; }, [](double v) { return to_int32(v); });
    case Reduce::max: return reduce_scalars<int32_t>(k, int32_t{-2147483647 - 1}, [](int32_t a, int32_t x) { return x > a ? x : a; }, same);
    default: return reduce_scalars<int32_t>(k, int32_t{2147483647}, [](int32_t a, int32_t x) { return x < a ? x : a; }, same);
  }
}

template <bool Smallest, class T>
SIMMIM_INLINE auto beats(T x, T best) {
  if constexpr (Smallest) return x < best;
  else return x > best;
}

/// Position of the first of the largest (smallest) of n neighbouring values; a NaN beats nothing and, in front, is beaten by nothing.
template <bool Smallest, class T>
int32_t position_in_row(const T* x, int64_t n) {
  int64_t i = 0;
  T top = x[0];
  int32_t found = 0;
  if constexpr (sizeof(T) == 4) {
    auto best = splat(top);
    IVec where{}, at{};
    for (int lane = 0; lane < kLanes; lane++) at[lane] = lane;
    for (; i + kLanes <= n; i += kLanes, at += kLanes) {
      const auto v = load(x + i);
      const IVec better = beats<Smallest>(v, best);
      best = better ? v : best;
      where = better ? at : where;
    }
    for (int lane = 0; lane < kLanes; lane++)
      if (beats<Smallest>(best[lane], top) || (best[lane] == top && where[lane] < found)) top = best[lane], found = where[lane];
  }
  for (; i < n; i++)
    if (beats<Smallest>(x[i], top)) top = x[i], found = static_cast<int32_t>(i);
  return found;
}

/// Positions [width] in the columns of n rows of `inner` values; width is at most kColumns.
template <bool Smallest, class T>
void positions_in_columns(const T* x, int64_t n, int64_t inner, int64_t width, int32_t* y) {
  T best[kColumns];
  int32_t where[kColumns];
  for (int64_t c = 0; c < width; c++) best[c] = x[c], where[c] = 0;
  for (int64_t r = 1; r < n; r++)
    for (int64_t c = 0; c < width; c++) {
      const T v = x[r * inner + c];
      const bool better = beats<Smallest>(v, best[c]);
      best[c] = better ? v : best[c];
      where[c] = better ? static_cast<int32_t>(r) : where[c];
    }
  for (int64_t c = 0; c < width; c++) y[c] = where[c];
}

template <bool Smallest, class T>
void arg_reduce(const ArgReduce& k) {
  const int64_t outer = k.x.dim(0), n = k.x.dim(1), inner = k.x.dim(2);
  const T* x = k.x.as<T>();
  if (n == 0) return static_cast<void>(__builtin_memset(k.y.data, 0, k.y.bytes()));
  const int64_t bands = (inner + kColumns - 1) / kColumns, work = n * (inner < kColumns ? inner : kColumns);
  parallel_ranges(outer * bands, work < 16384 ? 16384 / (work + 1) + 1 : 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; item++) {
      if (inner == 1) {
        k.y.i32()[item] = position_in_row<Smallest>(x + item * n, n);
        continue;
      }
      const int64_t o = item / bands, c = item % bands * kColumns;
      positions_in_columns<Smallest>(x + o * n * inner + c, n, inner, inner - c < kColumns ? inner - c : kColumns, k.y.i32() + o * inner + c);
    }
  });
}

template <class T>
void arg_reduce(const ArgReduce& k) {
  k.smallest ? arg_reduce<true, T>(k) : arg_reduce<false, T>(k);
}

}  // namespace

void run(const Reduce& k) {
  if (k.x.dtype == DType::i32) return reduce_integers(k);
  switch (k.op) {
    case Reduce::sum: return reduce_floats<SumF>(k);
    case Reduce::mean: return reduce_floats<SumF>(k, 1.0 / static_cast<double>(k.x.dim(1)));
    case Reduce::max: return reduce_floats<MaxF>(k);
    case Reduce::min: return reduce_floats<MinF>(k);
    case Reduce::prod: return reduce_floats<ProdF>(k);
    case Reduce::all: return reduce_scalars<uint8_t>(k, uint8_t{1}, [](uint8_t a, uint8_t x) -> uint8_t { return a && x; }, [](uint8_t v) { return v; });
    case Reduce::any: return reduce_scalars<uint8_t>(k, uint8_t{0}, [](uint8_t a, uint8_t x) -> uint8_t { return a || x; }, [](uint8_t v) { return v; });
  }
}

void run(const ArgReduce& k) {
  switch (k.x.dtype) {
    case DType::f32: return arg_reduce<float>(k);
    case DType::i32: return arg_reduce<int32_t>(k);
    default: return arg_reduce<uint8_t>(k);
  }
}

}  // namespace simmim::SIMMIM_ISA
