// Matrix products: C[M,N] = finish(op(A) op(B)), row-major with leading dimensions, f32 or bf16 operands,
// f32 accumulation. The finishing (bias, GELU, residual, rounding) happens while a tile is in cache.
//
// Bits do not depend on the number of threads: an element is one fused multiply-add chain per block of K,
// blocks are added in order, and where and whether K is cut depends on (M, N, K) alone. Threads only share out
// the rows and columns, and the packing of B.
#pragma once
#include "gemm_shared.h"

#ifndef SIMMIM_ISA
#error "gemm.h belongs to files compiled per instruction-set level (see native/CMakeLists.txt)"
#endif

namespace simmim::SIMMIM_ISA {

/// Uses the thread pool when the product is worth it; may be called from inside a parallel region (runs inline).
void gemm(const Gemm& g);

}  // namespace simmim::SIMMIM_ISA
