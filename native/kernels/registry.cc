#include "registry.h"

#include "../cpu/isa.h"
#include "kernels.h"

namespace simmim {

namespace baseline { extern const KernelFn kernel_table[]; }
#if defined(__x86_64__)
namespace avx2 { extern const KernelFn kernel_table[]; }
namespace avx512 { extern const KernelFn kernel_table[]; }
#endif

namespace {

const KernelInfo kInfos[] = {
#define KERNEL(K) kernel_info<K>(),
#include "kernels.def"
#undef KERNEL
};
constexpr int kCount = sizeof(kInfos) / sizeof(kInfos[0]);

}  // namespace

int kernel_count() { return kCount; }
const KernelInfo& kernel_at(int id) {
  if (id < 0 || id >= kCount) fail("there is no kernel number %d", id);
  return kInfos[id];
}

KernelFn kernel_function(int id) {
#if defined(__x86_64__)
  switch (current_isa()) {
    case Isa::avx512: return avx512::kernel_table[id];
    case Isa::avx2: return avx2::kernel_table[id];
    case Isa::baseline: break;
  }
#endif
  return baseline::kernel_table[id];
}

}  // namespace simmim
