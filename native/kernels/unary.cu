#include "unary.h"

#include "../cuda/launch.cuh"
#include "../cuda/vec.cuh"
#include "elementary.cuh"

namespace simmim::cuda {

namespace {

#define DEFINE(name, float_body, double_body)                                                                                  \
  struct Function_##name {                                                                                                     \
    static SIMMIM_DEVICE float on_float(float x, [[maybe_unused]] float a, [[maybe_unused]] float b) { return float_body; }    \
    static SIMMIM_DEVICE double on_double(double x, [[maybe_unused]] double a, [[maybe_unused]] double b) { return double_body; } \
  };
SIMMIM_UNARY_OPS(DEFINE)
#undef DEFINE

/// Four values a turn where the addresses allow it, `packs` times, then the rest one by one.
template <class F>
__global__ void on_floats(const float* x, float* y, int64_t packs, int64_t count, float a, float b) {
  for (int64_t i = global_thread(); i < packs; i += global_threads()) {
    Pack<4> v = load_pack(x + 4 * i);
    for (int j = 0; j < 4; j++) v[j] = F::on_float(v[j], a, b);
    store_pack(y + 4 * i, v);
  }
  for (int64_t i = 4 * packs + global_thread(); i < count; i += global_threads()) y[i] = F::on_float(x[i], a, b);
}

template <class F>
void run_floats(const Unary& k, Stream& stream) {
  const int64_t n = k.x.count(), packs = packs_allowed(k.x.f32(), k.y.f32()) ? n / 4 : 0;
  launch(stream, &on_floats<F>, grid_for(stream, packs + n - 4 * packs), k.x.f32(), k.y.f32(), packs, n, k.a, k.b);
}

/// Integers are rare: one kernel for all functions, which computes in doubles as JavaScript does.
__device__ double on_double(int32_t op, double x, double a, double b) {
  switch (op) {
#define CASE(name, ...) \
  case Unary::name: return Function_##name::on_double(x, a, b);
    SIMMIM_UNARY_OPS(CASE)
#undef CASE
  }
  return 0;
}

struct OnIntegers {
  const int32_t* x;
  void* y;
  int32_t op;
  bool to_float;
  double a, b;
  __device__ void operator()(int64_t i) const {
    const double v = on_double(op, x[i], a, b);
    if (to_float) static_cast<float*>(y)[i] = static_cast<float>(v);
    else static_cast<int32_t*>(y)[i] = to_int32(v);
  }
};

__device__ bool ask(int32_t op, float f) {
  switch (op) {
#define CASE(name, body) \
  case Predicate::name: return body;
    SIMMIM_PREDICATES(CASE)
#undef CASE
  }
  return false;
}

template <class T>
struct Asked {
  const T* x;
  uint8_t* y;
  int32_t op;
  __device__ void operator()(int64_t i) const { y[i] = ask(op, static_cast<float>(x[i])); }
};

}  // namespace

void run(const Unary& k, Stream& stream) {
  if (k.x.count() == 0) return;
  if (k.x.dtype == DType::i32) return for_each(stream, k.x.count(), OnIntegers{k.x.i32(), k.y.data, k.op, k.y.dtype == DType::f32, k.a, k.b});
  static constexpr void (*table[])(const Unary&, Stream&) = {
#define ENTRY(name, ...) &run_floats<Function_##name>,
      SIMMIM_UNARY_OPS(ENTRY)
#undef ENTRY
  };
  table[k.op](k, stream);
}

void run(const Predicate& k, Stream& stream) {
  const int64_t n = k.x.count();
  if (k.x.dtype == DType::f32) for_each(stream, n, Asked<float>{k.x.f32(), k.y.u8(), k.op});
  else if (k.x.dtype == DType::i32) for_each(stream, n, Asked<int32_t>{k.x.i32(), k.y.u8(), k.op});
  else for_each(stream, n, Asked<uint8_t>{k.x.u8(), k.y.u8(), k.op});
}

}  // namespace simmim::cuda
