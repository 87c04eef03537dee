// Launching kernels, the same way under nvcc and under emulation: launch(stream, kernel, {blocks, threads}, arguments...).
#pragma once
#include "check.h"
#include "device.cuh"

namespace simmim::cuda {

struct Grid {
  dim3 blocks, threads;
  size_t shared = 0;  // bytes of dynamic shared memory per block
};

constexpr unsigned kThreads = 256;  // of a block, where nothing asks for another number

/// Blocks for `count` items, one per thread; enough to fill the device, the kernel loops over the rest.
inline Grid grid_for(const Stream& stream, int64_t count, unsigned threads = kThreads) {
  const int64_t wanted = (count + threads - 1) / threads, most = static_cast<int64_t>(stream.multiprocessors) * 16;
  return {dim3(static_cast<unsigned>(wanted < 1 ? 1 : wanted < most ? wanted : most)), dim3(threads)};
}

/// The stream, and the place in the source that a failing launch is reported with.
struct At {
  At(Stream& stream, std::source_location where = std::source_location::current()) : stream(stream), where(where) {}
  Stream& stream;
  std::source_location where;
};

template <class... P, class... A>
void launch(At at, void (*kernel)(P...), const Grid& grid, A... arguments) {
#if defined(SIMMIM_CUDA_EMULATED)
  const dim3 blocks = grid.blocks, threads = grid.threads;
  const size_t shared = grid.shared;
  const unsigned size = threads.x * threads.y * threads.z;
  const bool fits = shared <= at.stream.shared_limit && size > 0 && size <= 1024 && threads.z <= 64 && blocks.x > 0 && blocks.x < 1u << 31 && blocks.y > 0 && blocks.y <= 65535 && blocks.z > 0 && blocks.z <= 65535;
  const char* where = at.where.function_name();
  check(fits ? emulation::enqueue(at.stream.handle, where, [=] { emulation::run_grid(where, blocks, threads, shared, [=] { kernel(P(arguments)...); }); }) : cudaErrorInvalidConfiguration, "kernel launch", at.where);
#else
  if (grid.shared > (48 << 10)) check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(grid.shared)), "cudaFuncSetAttribute", at.where);
  cudaLaunchConfig_t config{};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.shared;
  config.stream = at.stream.handle;
  check(cudaLaunchKernelEx(&config, kernel, P(arguments)...), "kernel launch", at.where);
#endif
}

template <class F>
__global__ void for_each_kernel(int64_t count, F body) {
  for (int64_t i = global_thread(); i < count; i += global_threads()) body(i);
}

/// body(i) for i in [0, count), in no order; `body` is a functor with __device__ operator().
template <class F>
void for_each(At at, int64_t count, const F& body) {
  if (count > 0) launch(at, &for_each_kernel<F>, grid_for(at.stream, count), count, body);
}

}  // namespace simmim::cuda
