// The micro-kernels on native bf16 dot products (avx512_bf16). A file of its own, compiled for that extension alone;
// the avx512 level asks for its table where cpu/isa.h's has_bf16_dot() says the machine can run it.
#include "gemm_buffers.h"

#if defined(SIMMIM_BF16_DOT)
#include "gemm_kernel.h"

namespace simmim {
namespace SIMMIM_ISA {
static constexpr TileTable kTiles = tile_table<MultiplyPairs>();
}
const void* bf16_dot_tiles() { return &SIMMIM_ISA::kTiles; }
}  // namespace simmim
#endif
