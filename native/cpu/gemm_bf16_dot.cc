// The inner functions of matrix products on native bf16 dot products (avx512_bf16). A file of its own, compiled for
// that extension; the avx512 level uses it where cpu/isa.h's has_bf16_dot() says the machine can run it.
#include "gemm_shared.h"

#if defined(SIMMIM_BF16_DOT)
#include "gemm_finish.h"

namespace simmim {
namespace SIMMIM_ISA {
static constexpr GemmKernels kKernels = gemm_kernels<MultiplyPairs>();
}
const GemmKernels& bf16_dot_kernels() { return SIMMIM_ISA::kKernels; }
}  // namespace simmim
#endif
