// What the matrix products of all instruction-set levels share: the table of inner functions, scratch.
#pragma once
#include "../core/gemm.h"

namespace simmim {

constexpr int kMaxTileRows = 14;

/// Where tiles beside each other go, and what is added to their sums on the way, in this order; each may be null.
struct TileResult {
  const float* earlier;  // sums of earlier blocks of K
  int64_t ld_earlier;
  const float* bias;      // one row
  const float* residual;  // with C's leading dimension
  float* c;
  int64_t ldc;
};

/// The inner functions of one way to multiply (gemm_kernel.h, gemm_finish.h).
struct GemmKernels {
  /// `count` tiles along the same rows, their panels of B panel_b floats apart: called for each of them it would take 1 to 2 % longer.
  using Tiles = void (*)(int64_t k, const float* a, int64_t lda, const float* b, int64_t panel_b, int64_t count, const TileResult& to);
  /// One per row count (entry 0 is unused): padding the last panel instead would cost 9 % at 128 rows.
  Tiles tiles[kMaxTileRows + 1];
  Tiles tiles_in_place[kMaxTileRows + 1];  // A as it lies in memory; where kReadsInPlace
  /// Finishes sums [m, n] (row pitch ld) into C from row i0, column j0 on.
  void (*finish)(const Gemm& g, const float* sums, int64_t ld, int64_t i0, int64_t m, int64_t j0, int64_t n);
};

/// Those on native bf16 dot products, with AVX-512's tile; defined where SIMMIM_BF16_DOT is.
const GemmKernels& bf16_dot_kernels();

enum class GemmBuffer : int { packed_a, packed_b, partial, slices, attention, patches };

/// Scratch of this thread, kept for reuse: at least `floats` floats, 64-byte aligned, valid until the thread asks
/// for the same buffer again. Not compiled per level, because it needs the runtime library.
float* gemm_buffer(GemmBuffer which, size_t floats);

/// Returns when another thread has brought *counter to `value` or beyond; what it wrote before is then seen.
void wait_for(const int32_t* counter, int32_t value);

}  // namespace simmim
