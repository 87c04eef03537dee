// The CUDA versions of the kernels, by number; kernels/table.cuda.cc expands kernels.def.
#pragma once
#include <cstdint>

#include "stream.h"

namespace simmim::cuda {

using KernelFunction = void (*)(const void* args, Stream& stream);

extern const KernelFunction kernel_table[];  // null where a kernel runs on the host only
extern const char* const kernel_names[];
extern const int kernel_count;
uint64_t kernels_of_table();  // kernels_fingerprint()

}  // namespace simmim::cuda
