// The vocabulary every layer shares: dtype, shape, tensor. No ownership, no threads, no intrinsics.
// Functions here are used from files compiled for several instruction sets, so all are always_inline:
// an out-of-line copy compiled for AVX-512 must never be the one the linker keeps for everybody.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)  // device code uses them as well
#define SIMMIM_INLINE inline __host__ __device__ __attribute__((always_inline))
#elif defined(SIMMIM_SANITIZED)  // an addon for tests, whose levels its machine has; see CMakeLists.txt
#define SIMMIM_INLINE inline
#else
#define SIMMIM_INLINE inline __attribute__((always_inline))
#endif

namespace simmim {

enum class DType : int32_t { f32 = 0, i32 = 1, u8 = 2, bf16 = 3 };  // u8 is also tfjs's bool
constexpr int kDTypes = 4;

SIMMIM_INLINE constexpr size_t size_of(DType t) { return t == DType::u8 ? 1 : t == DType::bf16 ? 2 : 4; }
SIMMIM_INLINE constexpr const char* name_of(DType t) {
  return t == DType::f32 ? "f32" : t == DType::i32 ? "i32" : t == DType::u8 ? "u8" : "bf16";
}

constexpr int kMaxRank = 8;

struct Shape {
  int32_t rank = 0;
  int64_t dims[kMaxRank] = {};
  SIMMIM_INLINE int64_t operator[](int i) const { return dims[i < 0 ? rank + i : i]; }  // negative: from the end
  SIMMIM_INLINE int64_t count() const {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= dims[i];
    return n;
  }
  /// Product of dims [begin, end); end < 0 counts from the end.
  SIMMIM_INLINE int64_t span(int begin, int end) const {
    if (end < 0) end += rank;
    int64_t n = 1;
    for (int i = begin; i < end; i++) n *= dims[i];
    return n;
  }
  SIMMIM_INLINE bool operator==(const Shape& o) const {
    if (rank != o.rank) return false;
    for (int i = 0; i < rank; i++)
      if (dims[i] != o.dims[i]) return false;
    return true;
  }
};

/// What a kernel sees: contiguous row-major data. An absent optional tensor has data == nullptr.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  SIMMIM_INLINE bool present() const { return data != nullptr; }
  SIMMIM_INLINE int64_t count() const { return shape.count(); }
  SIMMIM_INLINE int64_t dim(int i) const { return shape[i]; }
  SIMMIM_INLINE size_t bytes() const { return static_cast<size_t>(count()) * size_of(dtype); }
  template <class T>
  SIMMIM_INLINE T* as() const { return static_cast<T*>(data); }
  SIMMIM_INLINE float* f32() const { return as<float>(); }
  SIMMIM_INLINE int32_t* i32() const { return as<int32_t>(); }
  SIMMIM_INLINE uint8_t* u8() const { return as<uint8_t>(); }
  SIMMIM_INLINE uint16_t* bf16() const { return as<uint16_t>(); }
};

/// A short list of integers among a kernel's parameters (pads, strides, permutations).
struct Ints {
  static constexpr int kCapacity = 24;
  int32_t size = 0;
  int64_t values[kCapacity] = {};
  SIMMIM_INLINE int64_t operator[](int i) const { return values[i]; }
};

}  // namespace simmim
