// What the threads of an emulated block share. One thread of the process runs one block at a time; its threads are
// fibres that pause at barriers and warp operations.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "runtime.h"

namespace simmim::emulation {

constexpr unsigned kWarp = 32;
constexpr size_t kExchangeBytes = 32;  // a lane brings to a warp operation

/// Coordinates of the running thread, as kernels read them.
struct Coordinates {
  dim3 thread, block, threads, blocks;
  unsigned linear = 0;  // of the thread in its block
};
extern Coordinates at;

/// Dynamic shared memory of the running block.
extern unsigned char* shared_memory;

[[noreturn]] void fail_misaligned(const void* p, size_t bytes);

/// __syncthreads(); returns how many threads came with `predicate` true.
int block_barrier(bool predicate);

/// A vector access at an address that is no multiple of its bytes fails on a GPU; here it is an error.
inline void require_aligned(const void* p, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0) fail_misaligned(p, bytes);
}

/// What all lanes of `mask` brought to the same operation, by lane.
using Exchanged = unsigned char (*)[kExchangeBytes];
Exchanged exchange(uint32_t mask, const void* value, size_t bytes);

template <class T>
T lane_value(Exchanged all, unsigned lane) {
  T value;
  std::memcpy(&value, all[lane % kWarp], sizeof value);
  return value;
}

}  // namespace simmim::emulation
