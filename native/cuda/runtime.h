// The CUDA runtime, or its emulation on the host: the rest of native/cuda does not know which.
#pragma once
#if defined(SIMMIM_CUDA_EMULATED)
#include "emulation/runtime.h"
#else
#include <cuda_runtime_api.h>
#endif

namespace simmim::cuda {
#if defined(SIMMIM_CUDA_EMULATED)
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif
}  // namespace simmim::cuda
