// (kernel, instruction-set level) -> function. Expanded from kernels.def.
#pragma once
#include "../core/kernel.h"

namespace simmim {

int kernel_count();
const KernelInfo& kernel_at(int id);
/// False where all that the kernel writes is empty: there is nothing to do, whatever the sizes of what it reads.
bool has_results(int id, const void* args);
/// The function of the level in force (cpu/isa.h).
KernelFn kernel_function(int id);

}  // namespace simmim
