// Errors of the CUDA runtime as simmim::Error, with the call, the file and the line.
#pragma once
#include <source_location>

#include "runtime.h"

namespace simmim::cuda {

/// Throws Error: out_of_memory, unsupported (no driver, no device, none of our code for it), device_lost for what the
/// device does not recover from, else internal.
[[noreturn]] void fail_cuda(cudaError_t status, const char* call, const std::source_location& where);

inline void check(cudaError_t status, const char* call, const std::source_location& where = std::source_location::current()) {
  if (status != cudaSuccess) fail_cuda(status, call, where);
}

}  // namespace simmim::cuda

#define SIMMIM_CUDA_CALL(call) ::simmim::cuda::check(call, #call)
