#include "registry.h"

#include "../cpu/isa.h"
#include "kernels.h"

namespace simmim {

namespace baseline { extern const KernelFn kernel_table[]; }
namespace avx2 { extern const KernelFn kernel_table[]; }
namespace avx512 { extern const KernelFn kernel_table[]; }

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
  switch (current_isa()) {
#if defined(SIMMIM_LEVEL_avx512)
    case Isa::avx512: return avx512::kernel_table[id];
#endif
#if defined(SIMMIM_LEVEL_avx2)
    case Isa::avx2: return avx2::kernel_table[id];
#endif
    default: break;
  }
  return baseline::kernel_table[id];
}

}  // namespace simmim
