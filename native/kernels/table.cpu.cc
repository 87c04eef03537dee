// This level's functions, in the order of kernels.def.
#include "kernels.h"

namespace simmim::SIMMIM_ISA {

#define KERNEL(K) void run(const K&);
#include "kernels.def"
#undef KERNEL

template <class K>
static void entry(const void* args) {
  run(*static_cast<const K*>(args));
}

extern const KernelFn kernel_table[];
const KernelFn kernel_table[] = {
#define KERNEL(K) &entry<K>,
#include "kernels.def"
#undef KERNEL
};

}  // namespace simmim::SIMMIM_ISA
