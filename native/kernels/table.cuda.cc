// The CUDA version of each kernel, in the order of kernels.def.
#include "../cuda/table.h"

#include "fingerprint.h"
#include "kernels.h"

namespace simmim::cuda {

#define KERNEL(K) void run(const K&, Stream&);
#define KERNEL_CPU_ONLY(K)
#include "kernels.def"
#undef KERNEL

template <class K>
static void entry(const void* args, Stream& stream) {
  run(*static_cast<const K*>(args), stream);
}

const KernelFunction kernel_table[] = {
#define KERNEL(K) &entry<K>,
#define KERNEL_CPU_ONLY(K) nullptr,
#include "kernels.def"
#undef KERNEL
};

const char* const kernel_names[] = {
#define KERNEL(K) K::name,
#include "kernels.def"
#undef KERNEL
};

const int kernel_count = sizeof(kernel_table) / sizeof(kernel_table[0]);

uint64_t kernels_of_table() { return kernels_fingerprint(); }

}  // namespace simmim::cuda
