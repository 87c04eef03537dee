// What every .cu file starts with: device code, compiled by nvcc or by the host compiler against emulation/device.h.
#pragma once
#include "../core/tensor.h"
#include "stream.h"
#if defined(SIMMIM_CUDA_EMULATED)
#include "emulation/device.h"
#else
#include <cuda_runtime.h>
#endif

#define SIMMIM_DEVICE __device__ __forceinline__
#if defined(__CUDACC__)
#define SIMMIM_UNROLL _Pragma("unroll")
#else
#define SIMMIM_UNROLL
#endif

namespace simmim::cuda {

/// Dynamic shared memory of the block, as asked for at the launch; 16-byte aligned.
template <class T>
SIMMIM_DEVICE T* shared_memory() {
#if defined(SIMMIM_CUDA_EMULATED)
  return reinterpret_cast<T*>(emulation::shared_memory);
#else
  extern __shared__ __align__(16) unsigned char simmim_shared_memory[];
  return reinterpret_cast<T*>(simmim_shared_memory);
#endif
}

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kWarpSize = 32;

/// Number of this thread in the grid, and of threads in the grid; one-dimensional grids.
SIMMIM_DEVICE int64_t global_thread() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
SIMMIM_DEVICE int64_t global_threads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

}  // namespace simmim::cuda
