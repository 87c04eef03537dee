#include "fill.h"

#include "../cuda/launch.cuh"
#include "../cuda/vec.cuh"

namespace simmim::cuda {

namespace {

template <class T>
struct FillWith {
  T* y;
  T value;
  __device__ void operator()(int64_t i) const { y[i] = value; }
};

/// `whole` values of T repeat in 16 bytes, the last few one by one.
template <class T>
void fill(const Tensor& y, T value, Stream& stream) {
  const int64_t n = y.count();
  if (reinterpret_cast<uintptr_t>(y.data) % 16 != 0) return for_each(stream, n, FillWith<T>{y.as<T>(), value});
  constexpr int64_t per = 16 / sizeof(T);
  union {
    T values[per];
    uint4 pack;
  } repeated;
  for (T& v : repeated.values) v = value;
  const int64_t packs = n / per, done = packs * per;
  for_each(stream, packs, FillWith<uint4>{y.as<uint4>(), repeated.pack});
  for_each(stream, n - done, FillWith<T>{y.as<T>() + done, value});
}

}  // namespace

void run(const Fill& k, Stream& stream) {
  switch (k.y.dtype) {
    case DType::f32: return fill(k.y, static_cast<float>(k.value), stream);
    case DType::i32: return fill(k.y, static_cast<int32_t>(k.value), stream);
    case DType::u8: return fill(k.y, static_cast<uint8_t>(k.value), stream);
    case DType::bf16: return fill(k.y, float_to_bf16(static_cast<float>(k.value)), stream);
  }
}

}  // namespace simmim::cuda
