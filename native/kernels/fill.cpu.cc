#include "fill.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

template <class T>
static void fill_range(T* y, int64_t begin, int64_t end, T value) {
  for (int64_t i = begin; i < end; i++) y[i] = value;
}

void run(const Fill& k) {
  parallel_ranges(k.y.count(), 1 << 16, [&](int64_t begin, int64_t end) {
    switch (k.y.dtype) {
      case DType::f32: return fill_range(k.y.f32(), begin, end, static_cast<float>(k.value));
      case DType::i32: return fill_range(k.y.i32(), begin, end, static_cast<int32_t>(k.value));
      case DType::u8: return fill_range(k.y.u8(), begin, end, static_cast<uint8_t>(k.value));
      case DType::bf16: return fill_range(k.y.bf16(), begin, end, float_to_bf16(static_cast<float>(k.value)));
    }
  });
}

}  // namespace simmim::SIMMIM_ISA
