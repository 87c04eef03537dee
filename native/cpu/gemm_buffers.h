// Scratch memory of the matrix products: one set per thread, kept for reuse. Not compiled per level,
// because it needs the runtime library.
#pragma once
#include <cstddef>

namespace simmim {

enum class GemmBuffer : int { packed_a, packed_b, partial, slices };

/// At least `floats` floats, 64-byte aligned, valid until this thread asks for the same buffer again.
float* gemm_buffer(GemmBuffer which, size_t floats);

/// The TileTable (gemm_kernel.h, AVX-512 tile) of the native bf16 dot product kernels; defined where SIMMIM_BF16_DOT is.
const void* bf16_dot_tiles();

}  // namespace simmim
