// (kernel, instruction-set level) -> function. Expanded from kernels.def.
#pragma once
#include "../core/kernel.h"

namespace simmim {

int kernel_count();
const KernelInfo& kernel_at(int id);
/// The function of the level in force (cpu/isa.h).
KernelFn kernel_function(int id);

}  // namespace simmim
