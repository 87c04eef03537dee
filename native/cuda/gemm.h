// Matrix products with their finishing, and sums over rows. The products are cuBLASLt's; what its epilogues cannot do
// (exact GELU, its derivative, sides of another dtype) is one more pass over C.
#pragma once
#include "../core/gemm.h"
#include "stream.h"

namespace simmim::cuda {

/// As the CPU's gemm() (core/gemm.h), but without `row_sums`; with a finishing, C and its sides are dense (ldc = n). In
/// bf16, as elsewhere on GPUs, the bias is rounded before it is added, and what follows `pre` goes on from its rounded value.
void gemm(const Gemm& g, Stream& stream);

/// `batch` products with nothing but a bias to finish; A and B of the next one lie a_step and b_step elements further (0
/// repeats them), C follows densely.
void gemm_batch(const Gemm& g, int64_t batch, int64_t a_step, int64_t b_step, Stream& stream);

/// y = GELU(x), element by element.
void gelu_all(const Side& x, const Side& y, int64_t count, Stream& stream);

/// One pass over dy [rows, n]: dz = dy * GELU'(pre) when there is `pre` (dz may be dy), and into `partials`
/// [row_chunks(rows), n], when given, the sums of each chunk of rows of dz, or of dy without `pre`.
void activation_and_row_sums(int64_t rows, int64_t n, const Side& dy, const Side& pre, const Side& dz, float* partials, Stream& stream);

/// sums[j] (+)= sum over the chunks of partials [chunks, n].
void combine_row_sums(const float* partials, int64_t chunks, int64_t n, float* sums, bool accumulate, Stream& stream);

}  // namespace simmim::cuda
