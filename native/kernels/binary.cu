#include "binary.h"

#include "../cuda/divide.cuh"
#include "../cuda/launch.cuh"
#include "../cuda/vec.cuh"
#include "elementary.cuh"

namespace simmim::cuda {

namespace {

#define DEFINE(name, float_body, double_body)                                                         \
  struct Function_##name {                                                                            \
    static SIMMIM_DEVICE float on_float(float a, [[maybe_unused]] float b) { return float_body; }     \
    static SIMMIM_DEVICE double on_double(double a, [[maybe_unused]] double b) { return double_body; } \
  };
SIMMIM_ARITHMETIC_OPS(DEFINE)
#undef DEFINE

SIMMIM_DEVICE void put(float* y, float v) { *y = v; }
SIMMIM_DEVICE void put(int32_t* y, float v) { *y = to_int32(v); }

/// Where operand values of a pair lie: the same element, or the first one throughout (step 0).
template <class In, class Out, class F>
struct DensePairs {
  const In *a, *b;
  Out* y;
  int64_t a_step, b_step;
  F function;
  __device__ void operator()(int64_t i) const { function(y + i, a[i * a_step], b[i * b_step]); }
};

template <class In, class Out, class F>
struct SpreadPairs {
  const In *a, *b;
  Out* y;
  Places<2> places;
  F function;
  __device__ void operator()(int64_t i) const {
    int64_t at[2];
    places.find(i, at);
    function(y + i, a[at[0]], b[at[1]]);
  }
};

/// function(y, a, b) for every element of the broadcast.
template <class In, class Out, class F>
void for_pairs(At at, const Tensor& a, const Tensor& b, const Tensor& y, const F& function) {
  const int64_t n = y.count();
  if (n == 0) return;
  const Broadcast p = collapse_broadcast(a.shape, b.shape, y.shape);
  if (p.rank == 1) return for_each(at, n, DensePairs<In, Out, F>{a.as<In>(), b.as<In>(), y.as<Out>(), p.a_steps[0], p.b_steps[0], function});
  SpreadPairs<In, Out, F> spread{a.as<In>(), b.as<In>(), y.as<Out>(), {}, function};
  for (int d = 0; d < p.rank; d++) spread.places.add(p.dims[d], {p.a_steps[d], p.b_steps[d]});
  spread.places.wide = n >= (int64_t{1} << 31);
  for_each(at, n, spread);
}

template <class F, class Out>
struct OnFloats {
  SIMMIM_DEVICE void operator()(Out* y, float a, float b) const { put(y, F::on_float(a, b)); }
};

/// Four pairs a turn where both operands are dense, aligned and of float.
template <class F>
__global__ void dense_floats(const float* a, const float* b, float* y, int64_t packs) {
  for (int64_t i = global_thread(); i < packs; i += global_threads()) {
    Pack<4> v = load_pack(a + 4 * i);
    const Pack<4> w = load_pack(b + 4 * i);
    for (int j = 0; j < 4; j++) v[j] = F::on_float(v[j], w[j]);
    store_pack(y + 4 * i, v);
  }
}

template <class F>
void run_floats(const Binary& k, Stream& stream) {
  if constexpr (__is_same(F, Function_floor_div)) return for_pairs<float, int32_t>(stream, k.a, k.b, k.y, OnFloats<F, int32_t>{});
  else if (k.a.shape == k.b.shape && k.y.count() % 4 == 0 && packs_allowed(k.a.f32(), k.b.f32(), k.y.f32()) && k.y.count() > 0)
    return launch(stream, &dense_floats<F>, grid_for(stream, k.y.count() / 4), k.a.f32(), k.b.f32(), k.y.f32(), k.y.count() / 4);
  else for_pairs<float, float>(stream, k.a, k.b, k.y, OnFloats<F, float>{});
}

/// Sums, differences and products wrap; what needs more than 32 bits on the way is computed in doubles, as in JavaScript.
struct OnIntegers {
  int32_t op;
  __device__ void operator()(int32_t* y, int32_t p, int32_t q) const {
    const uint32_t a = static_cast<uint32_t>(p), b = static_cast<uint32_t>(q);
    switch (op) {
      case Binary::add: *y = static_cast<int32_t>(a + b); return;
      case Binary::sub: *y = static_cast<int32_t>(a - b); return;
      case Binary::mul: *y = static_cast<int32_t>(a * b); return;
      case Binary::bitwise_and: *y = static_cast<int32_t>(a & b); return;
      default: *y = to_int32(in_doubles(p, q));
    }
  }
  __device__ double in_doubles(double a, double b) const {
    switch (op) {
#define CASE(name, ...) \
  case Binary::name: return Function_##name::on_double(a, b);
      SIMMIM_ARITHMETIC_OPS(CASE)
#undef CASE
    }
    return 0;
  }
};

template <class T>
struct Compared {
  int32_t op;
  __device__ void operator()(uint8_t* y, T a, T b) const { *y = holds(a, b); }
  __device__ bool holds(T a, T b) const {
    switch (op) {
#define CASE(name, body) \
  case Compare::name: return body;
      SIMMIM_COMPARISON_OPS(CASE)
#undef CASE
    }
    return false;
  }
};

template <class T>
struct Selected {
  const uint8_t* condition;
  const T *t, *e;
  T* y;
  int64_t per;  // elements for each value of the condition
  __device__ void operator()(int64_t i) const { y[i] = condition[per == 1 ? i : i / per] == 1 ? t[i] : e[i]; }
};
template <class T>
void select_all(const Select& k, Stream& stream) {
  const int64_t n = k.t.count();
  for_each(stream, n, Selected<T>{k.condition.u8(), k.t.as<T>(), k.e.as<T>(), k.y.as<T>(), n / k.condition.count()});
}

template <class From, class To>
struct Converted {
  const From* x;
  To* y;
  bool boolean;
  __device__ void operator()(int64_t i) const {
    if constexpr (sizeof(To) == 1 && sizeof(From) == 4) y[i] = boolean ? x[i] != 0 : static_cast<uint8_t>(to_int32(x[i]));
    else if constexpr (sizeof(To) == 1) y[i] = boolean ? x[i] != 0 : x[i];
    else if constexpr (__is_same(From, float) && __is_same(To, int32_t)) y[i] = to_int32(x[i]);
    else y[i] = static_cast<To>(x[i]);
  }
};
template <class From>
void cast_from(const Cast& k, Stream& stream) {
  const int64_t n = k.x.count();
  if (k.y.dtype == DType::f32) for_each(stream, n, Converted<From, float>{k.x.as<From>(), k.y.f32(), k.boolean});
  else if (k.y.dtype == DType::i32) for_each(stream, n, Converted<From, int32_t>{k.x.as<From>(), k.y.i32(), k.boolean});
  else for_each(stream, n, Converted<From, uint8_t>{k.x.as<From>(), k.y.u8(), k.boolean});
}

/// f32 to bf16 or back, eight values a turn where the addresses allow it.
template <class From, class To>
__global__ void convert_floats(const From* x, To* y, int64_t packs, int64_t count) {
  for (int64_t i = global_thread(); i < packs; i += global_threads()) {
    if constexpr (sizeof(From) == 2) {
      const Pack<8> v = load_pack(x + 8 * i);
      store_pack(y + 8 * i, {{v[0], v[1], v[2], v[3]}});
      store_pack(y + 8 * i + 4, {{v[4], v[5], v[6], v[7]}});
    } else {
      const Pack<4> v = load_pack(x + 8 * i), w = load_pack(x + 8 * i + 4);
      store_pack(y + 8 * i, {{v[0], v[1], v[2], v[3], w[0], w[1], w[2], w[3]}});
    }
  }
  for (int64_t i = 8 * packs + global_thread(); i < count; i += global_threads()) store(y + i, load(x + i));
}
template <class From, class To>
void convert(const Cast& k, Stream& stream) {
  const int64_t n = k.x.count(), packs = packs_allowed(k.x.data, k.y.data) ? n / 8 : 0;
  if (n > 0) launch(stream, &convert_floats<From, To>, grid_for(stream, packs + n - 8 * packs), k.x.as<From>(), k.y.as<To>(), packs, n);
}

}  // namespace

void run(const Binary& k, Stream& stream) {
  if (k.a.dtype == DType::i32) return for_pairs<int32_t, int32_t>(stream, k.a, k.b, k.y, OnIntegers{k.op});
  static constexpr void (*table[])(const Binary&, Stream&) = {
#define ENTRY(name, ...) &run_floats<Function_##name>,
      SIMMIM_ARITHMETIC_OPS(ENTRY)
#undef ENTRY
  };
  table[k.op](k, stream);
}

void run(const Compare& k, Stream& stream) {
  if (k.a.dtype == DType::f32) for_pairs<float, uint8_t>(stream, k.a, k.b, k.y, Compared<float>{k.op});
  else if (k.a.dtype == DType::i32) for_pairs<int32_t, uint8_t>(stream, k.a, k.b, k.y, Compared<int32_t>{k.op});
  else for_pairs<uint8_t, uint8_t>(stream, k.a, k.b, k.y, Compared<uint8_t>{k.op});
}

void run(const Select& k, Stream& stream) {
  if (k.t.count() == 0) return;
  switch (size_of(k.t.dtype)) {
    case 1: return select_all<uint8_t>(k, stream);
    case 2: return select_all<uint16_t>(k, stream);
    default: return select_all<uint32_t>(k, stream);
  }
}

void run(const Cast& k, Stream& stream) {
  if (k.x.dtype == k.y.dtype && !(k.boolean && k.x.dtype == DType::u8)) {
    if (k.x.bytes() > 0) SIMMIM_CUDA_CALL(cudaMemcpyAsync(k.y.data, k.x.data, k.x.bytes(), cudaMemcpyDeviceToDevice, stream.handle));
    return;
  }
  if (k.x.dtype == DType::bf16) return convert<uint16_t, float>(k, stream);
  if (k.y.dtype == DType::bf16) return convert<float, uint16_t>(k, stream);
  if (k.x.dtype == DType::f32) cast_from<float>(k, stream);
  else if (k.x.dtype == DType::i32) cast_from<int32_t>(k, stream);
  else cast_from<uint8_t>(k, stream);
}

}  // namespace simmim::cuda
