#include "binary.h"

#include "../cpu/stream.h"
#include "../cpu/thread_pool.h"
#include "elementary.h"

namespace simmim::SIMMIM_ISA {

namespace {

template <class F>
SIMMIM_INLINE Vec pairs(Vec a, Vec b, const F& f) {
  Vec y;
  for (int i = 0; i < kLanes; i++) y[i] = f(a[i], b[i]);
  return y;
}
#define PAIRS(function) pairs(a, b, [](float p, float q) { return function(p, q); })

// A row function: n outputs from operands whose step is 1 or 0 (never both 0 for n > 1).
using Row = void (*)(const void* a, int64_t a_step, const void* b, int64_t b_step, void* y, int64_t n);

#define DEFINE(name, vector_body, double_body)                                             \
  struct Function_##name {                                                                 \
    static SIMMIM_INLINE Vec on_vector(Vec a, [[maybe_unused]] Vec b) { return vector_body; }                \
    static SIMMIM_INLINE double on_double(double a, [[maybe_unused]] double b) { return double_body; }       \
  };
SIMMIM_ARITHMETIC_OPS(DEFINE)
#undef DEFINE

template <bool STREAM>
SIMMIM_INLINE void put(float* y, Vec v) {
  if constexpr (STREAM) stream(y, v);
  else store(y, v);
}
SIMMIM_INLINE void put_n(float* y, Vec v, int n) { store_n(y, v, n); }
template <bool STREAM>
SIMMIM_INLINE void put(int32_t* y, Vec v) {
  store(y, to_int32(v));
}
SIMMIM_INLINE void put_n(int32_t* y, Vec v, int n) {
  for (int i = 0; i < n; i++) y[i] = to_int32(v[i]);
}

/// Where the function is made for several registers side by side: does as many values as such blocks hold, and says how many.
template <class F, bool STREAM>
SIMMIM_INLINE int64_t in_blocks(const float* a, const float* b, float* y, int64_t n) {
  int64_t i = 0;
  if constexpr (!__is_same(F, Function_gelu_grad)) return i;
  for (; i + kGeluRegisters * kLanes <= n; i += kGeluRegisters * kLanes) {
    Vec slope[kGeluRegisters];
    for (int r = 0; r < kGeluRegisters; r++) slope[r] = load(b + i + r * kLanes);
    gelu_derivative(slope);
    for (int r = 0; r < kGeluRegisters; r++) put<STREAM>(y + i + r * kLanes, load(a + i + r * kLanes) * slope[r]);
  }
  return i;
}

/// STREAM: past the caches, where the row of floats has whole cache lines.
template <class F, class Out, bool STREAM = false>
void float_row(const void* a_data, int64_t a_step, const void* b_data, int64_t b_step, void* y_data, int64_t n) {
  const float *a = static_cast<const float*>(a_data), *b = static_cast<const float*>(b_data);
  Out* y = static_cast<Out*>(y_data);
  if constexpr (STREAM) {
    if (!can_stream(y, n)) return float_row<F, Out>(a_data, a_step, b_data, b_step, y_data, n);
  }
  const Vec a0 = splat(a[0]), b0 = splat(b[0]);
  int64_t i = 0;
  if constexpr (__is_same(Out, float)) i = a_step && b_step ? in_blocks<F, STREAM>(a, b, y, n) : 0;
  if (a_step && b_step)
    for (; i + kLanes <= n; i += kLanes) put<STREAM>(y + i, F::on_vector(load(a + i), load(b + i)));
  else if (a_step)
    for (; i + kLanes <= n; i += kLanes) put<STREAM>(y + i, F::on_vector(load(a + i), b0));
  else
    for (; i + kLanes <= n; i += kLanes) put<STREAM>(y + i, F::on_vector(a0, load(b + i)));
  if constexpr (STREAM) end_streaming();
  if (i == n) return;
  const int rest = static_cast<int>(n - i);
  put_n(y + i, F::on_vector(a_step ? load_n(a + i, rest, 1.0f) : a0, b_step ? load_n(b + i, rest, 1.0f) : b0), rest);
}

template <class F>
void integer_row(const void* a_data, int64_t a_step, const void* b_data, int64_t b_step, void* y_data, int64_t n) {
  const int32_t *a = static_cast<const int32_t*>(a_data), *b = static_cast<const int32_t*>(b_data);
  int32_t* y = static_cast<int32_t*>(y_data);
  for (int64_t i = 0; i < n; i++) y[i] = to_int32(F::on_double(a[i * a_step], b[i * b_step]));
}

#define INTEGER(name, body)                                                                                                       \
  template <>                                                                                                                     \
  void integer_row<Function_##name>(const void* a_data, int64_t a_step, const void* b_data, int64_t b_step, void* y_data, int64_t n) { \
    const uint32_t *p = static_cast<const uint32_t*>(a_data), *q = static_cast<const uint32_t*>(b_data);                         \
    uint32_t* y = static_cast<uint32_t*>(y_data);                                                                                 \
    auto each = [&](int64_t s, int64_t t) {                                                                                       \
      for (int64_t i = 0; i < n; i++) {                                                                                           \
        const uint32_t a = p[i * s], b = q[i * t];                                                                                \
        y[i] = body;                                                                                                              \
      }                                                                                                                           \
    };                                                                                                                            \
    if (a_step && b_step) each(1, 1);                                                                                             \
    else if (a_step) each(1, 0);                                                                                                  \
    else each(0, 1);                                                                                                              \
  }
INTEGER(add, a + b)
INTEGER(sub, a - b)
INTEGER(mul, a * b)
INTEGER(bitwise_and, a & b)
INTEGER(maximum, static_cast<int32_t>(a) > static_cast<int32_t>(b) ? a : b)
INTEGER(minimum, static_cast<int32_t>(a) < static_cast<int32_t>(b) ? a : b)
#undef INTEGER

#define DEFINE(name, body)                                  \
  struct Relation_##name {                                  \
    template <class T>                                      \
    static SIMMIM_INLINE uint8_t holds(T a, T b) {          \
      return body;                                          \
    }                                                       \
  };
SIMMIM_COMPARISON_OPS(DEFINE)
#undef DEFINE

template <class F, class T>
void compare_row(const void* a_data, int64_t a_step, const void* b_data, int64_t b_step, void* y_data, int64_t n) {
  const T *a = static_cast<const T*>(a_data), *b = static_cast<const T*>(b_data);
  uint8_t* y = static_cast<uint8_t*>(y_data);
  const T a0 = a[0], b0 = b[0];
  if (a_step && b_step)
    for (int64_t i = 0; i < n; i++) y[i] = F::holds(a[i], b[i]);
  else if (a_step)
    for (int64_t i = 0; i < n; i++) y[i] = F::holds(a[i], b0);
  else
    for (int64_t i = 0; i < n; i++) y[i] = F::holds(a0, b[i]);
}

constexpr int64_t kGrain = 1 << 14;
constexpr int64_t kShortRow = 64;
constexpr int64_t kBlock = 1024;

/// The operand's offset of the collapsed position `row` (all dims but the last).
SIMMIM_INLINE int64_t offset_of_row(const Broadcast& p, const int64_t* steps, int64_t row) {
  int64_t offset = 0;
  for (int i = p.rank - 2; i >= 0; i--) {
    offset += row % p.dims[i] * steps[i];
    row /= p.dims[i];
  }
  return offset;
}

/// Long rows: one row function call per piece of a row.
void long_rows(const Broadcast& p, Row row, const char* a, const char* b, char* y, size_t in, size_t out, int64_t rows) {
  const int64_t inner = p.dims[p.rank - 1], sa = p.a_steps[p.rank - 1], sb = p.b_steps[p.rank - 1];
  const int64_t pieces = (inner + kGrain - 1) / kGrain, together = inner < kGrain ? kGrain / inner : 1;
  if (pieces > 1) {
    parallel_for(rows * pieces, [&](int64_t item) {
      const int64_t r = item / pieces, begin = item % pieces * kGrain, n = begin + kGrain < inner ? kGrain : inner - begin;
      row(a + (offset_of_row(p, p.a_steps, r) + begin * sa) * in, sa, b + (offset_of_row(p, p.b_steps, r) + begin * sb) * in, sb, y + (r * inner + begin) * out, n);
    });
    return;
  }
  parallel_ranges(rows, together, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++)
      row(a + offset_of_row(p, p.a_steps, r) * in, sa, b + offset_of_row(p, p.b_steps, r) * in, sb, y + r * inner * out, inner);
  });
}

template <class T>
void spread(const Broadcast& p, const int64_t* steps, const T* x, int64_t begin, int64_t n, T* to) {
  const int64_t inner = p.dims[p.rank - 1], step = steps[p.rank - 1];
  int64_t r = begin / inner, at = begin % inner;
  while (n > 0) {
    const T* from = x + offset_of_row(p, steps, r) + at * step;
    const int64_t m = inner - at < n ? inner - at : n;
    for (int64_t i = 0; i < m; i++) to[i] = from[i * step];
    to += m;
    n -= m;
    at = 0;
    r++;
  }
}

bool walks_densely(const Broadcast& p, const int64_t* steps) {
  int64_t expected = 1;
  for (int i = p.rank - 1; i >= 0; i--) {
    if (steps[i] != expected) return false;
    expected *= p.dims[i];
  }
  return true;
}

/// Short rows: repeated operands are spread into a small buffer, so that the row function sees long rows.
template <class T>
void short_rows(const Broadcast& p, Row row, const T* a, const T* b, char* y, size_t out, int64_t total) {
  const bool a_dense = walks_densely(p, p.a_steps), b_dense = walks_densely(p, p.b_steps);
  parallel_ranges(total, kGrain, [&](int64_t begin, int64_t end) {
    T a_block[kBlock], b_block[kBlock];
    for (int64_t i = begin; i < end; i += kBlock) {
      const int64_t n = end - i < kBlock ? end - i : kBlock;
      if (!a_dense) spread(p, p.a_steps, a, i, n, a_block);
      if (!b_dense) spread(p, p.b_steps, b, i, n, b_block);
      row(a_dense ? a + i : a_block, 1, b_dense ? b + i : b_block, 1, y + i * out, n);
    }
  });
}

void run_rows(const Tensor& a, const Tensor& b, const Tensor& y, Row row) {
  const int64_t total = y.count();
  if (total == 0) return;
  const Broadcast p = collapse_broadcast(a.shape, b.shape, y.shape);
  const int64_t inner = p.dims[p.rank - 1], rows = total / inner;
  const size_t in = size_of(a.dtype), out = size_of(y.dtype);
  if (p.rank == 1 || inner >= kShortRow) return long_rows(p, row, a.as<char>(), b.as<char>(), y.as<char>(), in, out, rows);
  if (in == 4) return short_rows<uint32_t>(p, row, a.as<uint32_t>(), b.as<uint32_t>(), y.as<char>(), out, total);
  short_rows<uint8_t>(p, row, a.as<uint8_t>(), b.as<uint8_t>(), y.as<char>(), out, total);
}

template <class From, class To>
void cast_all(const Cast& k) {
  const From* x = k.x.as<From>();
  To* y = k.y.as<To>();
  const bool boolean = k.boolean;
  parallel_ranges(k.x.count(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      if constexpr (sizeof(To) == 1 && sizeof(From) == 4) y[i] = boolean ? x[i] != 0 : static_cast<uint8_t>(to_int32(x[i]));
      else if constexpr (sizeof(To) == 1) y[i] = boolean ? x[i] != 0 : x[i];
      else y[i] = static_cast<To>(x[i]);
    }
  });
}

template <class From>
void cast_from(const Cast& k) {
  if (k.y.dtype == DType::f32) cast_all<From, float>(k);
  else if (k.y.dtype == DType::i32) cast_all<From, int32_t>(k);
  else cast_all<From, uint8_t>(k);
}

template <bool STREAM>
void truncate(const Cast& k) {
  const float* x = k.x.f32();
  float* y = k.y.as<float>();  // bits of integers
  parallel_ranges(k.x.count(), kGrain, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) put<STREAM>(y + i, from_bits(to_int32(load(x + i))));
    for (; i < end; i++) k.y.i32()[i] = to_int32(static_cast<double>(x[i]));
    if constexpr (STREAM) end_streaming();
  });
}
void widen(const Cast& k) {
  parallel_ranges(k.x.count(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) k.y.f32()[i] = bf16_to_float(k.x.bf16()[i]);
  });
}
void narrow(const Cast& k) {
  parallel_ranges(k.x.count(), kGrain, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) store(k.y.bf16() + i, load(k.x.f32() + i));
    for (; i < end; i++) k.y.bf16()[i] = float_to_bf16(k.x.f32()[i]);
  });
}

template <class T>
void select_all(const Select& k) {
  const uint8_t* c = k.condition.u8();
  const T *t = k.t.as<T>(), *e = k.e.as<T>();
  T* y = k.y.as<T>();
  const int64_t total = k.t.count(), per = total / k.condition.count();
  if (per == 1) {
    parallel_ranges(total, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) y[i] = static_cast<T>(e[i] ^ ((t[i] ^ e[i]) & -(c[i] == 1)));  // no branch: conditions are hard to predict
    });
    return;
  }
  parallel_for(k.condition.count(), [&](int64_t row) {
    const T* from = c[row] == 1 ? t : e;
    for (int64_t i = row * per; i < (row + 1) * per; i++) y[i] = from[i];
  });
}

}  // namespace

void run(const Binary& k) {
  static constexpr Row floats[] = {
#define ENTRY(name, ...) &float_row<Function_##name, float>,
      SIMMIM_ARITHMETIC_OPS(ENTRY)
#undef ENTRY
  };
  static constexpr Row large[] = {
#define ENTRY(name, ...) &float_row<Function_##name, float, true>,
      SIMMIM_ARITHMETIC_OPS(ENTRY)
#undef ENTRY
  };
  static constexpr Row integers[] = {
#define ENTRY(name, ...) &integer_row<Function_##name>,
      SIMMIM_ARITHMETIC_OPS(ENTRY)
#undef ENTRY
  };
  if (k.a.dtype == DType::i32) run_rows(k.a, k.b, k.y, integers[k.op]);
  else if (k.op == Binary::floor_div) run_rows(k.a, k.b, k.y, &float_row<Function_floor_div, int32_t>);
  else run_rows(k.a, k.b, k.y, (k.y.bytes() > kStreamedBytes ? large : floats)[k.op]);
}

void run(const Compare& k) {
#define FLOATS(name, ...) &compare_row<Relation_##name, float>,
#define INTEGERS(name, ...) &compare_row<Relation_##name, int32_t>,
#define BOOLS(name, ...) &compare_row<Relation_##name, uint8_t>,
  static constexpr Row table[3][Compare::count] = {{SIMMIM_COMPARISON_OPS(FLOATS)}, {SIMMIM_COMPARISON_OPS(INTEGERS)}, {SIMMIM_COMPARISON_OPS(BOOLS)}};
#undef FLOATS
#undef INTEGERS
#undef BOOLS
  run_rows(k.a, k.b, k.y, table[static_cast<int>(k.a.dtype)][k.op]);
}

void run(const Select& k) {
  if (k.t.count() == 0) return;
  switch (size_of(k.t.dtype)) {
    case 1: return select_all<uint8_t>(k);
    case 2: return select_all<uint16_t>(k);
    default: return select_all<uint32_t>(k);
  }
}

void run(const Cast& k) {
  if (k.x.dtype == k.y.dtype && !(k.boolean && k.x.dtype == DType::u8)) {
    parallel_ranges(static_cast<int64_t>(k.x.bytes()), 1 << 18, [&](int64_t begin, int64_t end) { __builtin_memcpy(k.y.as<char>() + begin, k.x.as<char>() + begin, end - begin); });
    return;
  }
  if (k.x.dtype == DType::bf16) return widen(k);
  if (k.y.dtype == DType::bf16) return narrow(k);
  if (k.x.dtype == DType::f32 && k.y.dtype == DType::i32) return k.y.bytes() > kStreamedBytes && can_stream(k.y.as<float>(), 0) ? truncate<true>(k) : truncate<false>(k);
  if (k.x.dtype == DType::f32) cast_from<float>(k);
  else if (k.x.dtype == DType::i32) cast_from<int32_t>(k);
  else cast_from<uint8_t>(k);
}

}  // namespace simmim::SIMMIM_ISA
