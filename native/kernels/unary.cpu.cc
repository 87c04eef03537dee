#include "unary.h"

#include "../cpu/stream.h"
#include "../cpu/thread_pool.h"
#include "elementary.h"

namespace simmim::SIMMIM_ISA {

namespace {

#define DEFINE(name, vector_body, double_body)                                                    \
  struct Function_##name {                                                                        \
    static SIMMIM_INLINE Vec on_vector(Vec x, [[maybe_unused]] Vec a, [[maybe_unused]] Vec b) { return vector_body; }         \
    static SIMMIM_INLINE double on_double(double x, [[maybe_unused]] double a, [[maybe_unused]] double b) { return double_body; } \
  };
SIMMIM_UNARY_OPS(DEFINE)
#undef DEFINE

constexpr int64_t kGrain = 1 << 14;
constexpr int kTogether = kGeluRegisters;

/// The function of some registers, side by side where it is made for that.
template <class F>
SIMMIM_INLINE void on_vectors(Vec (&x)[kTogether], Vec a, Vec b) {
  for (int r = 0; r < kTogether; r++) x[r] = F::on_vector(x[r], a, b);
}
template <>
SIMMIM_INLINE void on_vectors<Function_gelu>(Vec (&x)[kTogether], Vec, Vec) {
  gelu(x);
}

/// STREAM: past the caches, where `y` has whole cache lines.
template <class F, bool STREAM>
void on_floats(const Unary& k) {
  const Vec a = splat(k.a), b = splat(k.b);
  const float* x = k.x.f32();
  float* y = k.y.f32();
  parallel_ranges(k.x.count(), kGrain, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + kTogether * kLanes <= end; i += kTogether * kLanes) {
      Vec v[kTogether];
      for (int r = 0; r < kTogether; r++) v[r] = load(x + i + r * kLanes);
      on_vectors<F>(v, a, b);
      for (int r = 0; r < kTogether; r++) {
        if constexpr (STREAM) stream(y + i + r * kLanes, v[r]);
        else store(y + i + r * kLanes, v[r]);
      }
    }
    if constexpr (STREAM) end_streaming();
    for (; i + kLanes <= end; i += kLanes) store(y + i, F::on_vector(load(x + i), a, b));
    if (i < end) store_n(y + i, F::on_vector(load_n(x + i, static_cast<int>(end - i), 1.0f), a, b), static_cast<int>(end - i));
  });
}

template <class F>
void on_integers(const Unary& k) {
  const int32_t* x = k.x.i32();
  parallel_ranges(k.x.count(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const double v = F::on_double(x[i], k.a, k.b);
      if (k.y.dtype == DType::f32) k.y.f32()[i] = static_cast<float>(v);
      else k.y.i32()[i] = to_int32(v);
    }
  });
}

template <class F>
void on_any(const Unary& k) {
  if (k.x.dtype != DType::f32) on_integers<F>(k);
  else if (k.y.bytes() > kStreamedBytes && can_stream(k.y.f32(), kGrain)) on_floats<F, true>(k);
  else on_floats<F, false>(k);
}

#define DEFINE(name, body)                                        \
  struct Question_##name {                                        \
    static SIMMIM_INLINE bool ask(float f) { return body; }       \
  };
SIMMIM_PREDICATES(DEFINE)
#undef DEFINE

template <class F, class T>
void ask_all(const Predicate& k) {
  const T* x = k.x.as<T>();
  uint8_t* y = k.y.u8();
  parallel_ranges(k.x.count(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) y[i] = F::ask(static_cast<float>(x[i]));
  });
}

template <class F>
void ask_any(const Predicate& k) {
  if (k.x.dtype == DType::f32) ask_all<F, float>(k);
  else if (k.x.dtype == DType::i32) ask_all<F, int32_t>(k);
  else ask_all<F, uint8_t>(k);
}

}  // namespace

void run(const Unary& k) {
  static constexpr void (*table[])(const Unary&) = {
#define ENTRY(name, ...) &on_any<Function_##name>,
      SIMMIM_UNARY_OPS(ENTRY)
#undef ENTRY
  };
  table[k.op](k);
}

void run(const Predicate& k) {
  static constexpr void (*table[])(const Predicate&) = {
#define ENTRY(name, ...) &ask_any<Question_##name>,
      SIMMIM_PREDICATES(ENTRY)
#undef ENTRY
  };
  table[k.op](k);
}

}  // namespace simmim::SIMMIM_ISA
