// y = residual + (x - mean) rstd gamma + beta over the last dimension, rstd = 1 / sqrt(var + eps) with the biased variance
// (Ba et al. 2016; torch.nn.LayerNorm; with `residual` SwinV2's normalisation behind a branch), and its gradient.
//   x [..., C]; y and residual [..., C] of one dtype; each f32 or bf16; gamma, beta [C]; R = rows = product of x's leading dimensions.
// Parallel over blocks of rows. Saved for the gradient: mean and rstd [R]. A row is read once from memory and then
// twice from cache (mean, then squared distances, as exact as two passes are). Every tensor crosses memory once: in f32
// 8 bytes an element forward (12 with residual), 12 backward (16 with `through`, which saves the addition of two
// gradients, 12 bytes). dgamma and dbeta are summed over chunks of rows and then over chunks, in order.
#pragma once
#include "../core/spec.h"

namespace simmim {

inline void check_channels(const char* name, const Tensor& t, const Tensor& x) {
  require(t.shape.rank == 1 && t.dim(0) == x.dim(-1), "%s has %lld values, expected %lld = channels of x", name, (long long)t.count(), (long long)x.dim(-1));
}
inline void check_row_values(const char* name, const Tensor& t, int64_t rows) {
  require(t.count() == rows, "%s has %lld values, expected %lld = rows of x", name, (long long)t.count(), (long long)rows);
}

struct LayerNorm {
  static constexpr const char* name = "layer_norm";
  Tensor x;            // [..., C]
  Tensor gamma, beta;  // [C]
  Tensor residual;     // [..., C], optional
  Tensor y;            // [..., C]
  Tensor mean, rstd;   // [R], for the gradient
  float eps;
  static auto spec() {
    return fields(in("x", &LayerNorm::x, kFloat), in("gamma", &LayerNorm::gamma, kF32), in("beta", &LayerNorm::beta, kF32),
                  optional_in("residual", &LayerNorm::residual, kFloat), out("y", &LayerNorm::y, kFloat), optional_out("mean", &LayerNorm::mean, kF32),
                  optional_out("rstd", &LayerNorm::rstd, kF32), par("eps", &LayerNorm::eps));
  }
  SIMMIM_INLINE int64_t rows() const { return x.shape.span(0, x.shape.rank - 1); }
  void check() const {
    require(x.shape.rank >= 1 && x.dim(-1) > 0, "x has no channels, expected [..., C]");
    check_channels("gamma", gamma, x);
    check_channels("beta", beta, x);
    require(y.shape == x.shape, "y has another shape than x");
    if (residual.present()) require_like("residual", residual, "y", y);
    if (mean.present()) check_row_values("mean", mean, rows());
    if (rstd.present()) check_row_values("rstd", rstd, rows());
    require(eps > 0, "eps is %g, expected a positive number", eps);
  }
};

/// dx from dy, plus `through` where given: the gradient that reaches x by another way, round the norm and its branch.
/// The gradient of `residual` is dy itself.
struct LayerNormGrad {
  static constexpr const char* name = "layer_norm_grad";
  Tensor dy, x;          // [..., C]
  Tensor gamma;          // [C]
  Tensor mean, rstd;     // [R]
  Tensor through;        // [..., C], optional
  Tensor dx;             // [..., C]
  Tensor dgamma, dbeta;  // [C], both or neither
  void* workspace = nullptr;  // sums of the chunks [2, chunks, C]
  static auto spec() {
    return fields(in("dy", &LayerNormGrad::dy, kFloat), in("x", &LayerNormGrad::x, kFloat), in("gamma", &LayerNormGrad::gamma, kF32),
                  in("mean", &LayerNormGrad::mean, kF32), in("rstd", &LayerNormGrad::rstd, kF32),
                  optional_in("through", &LayerNormGrad::through, kFloat), out("dx", &LayerNormGrad::dx, kFloat), optional_out("dgamma", &LayerNormGrad::dgamma, kF32),
                  optional_out("dbeta", &LayerNormGrad::dbeta, kF32));
  }
  SIMMIM_INLINE int64_t rows() const { return x.shape.span(0, x.shape.rank - 1); }
  /// At most 64 chunks, so that their sums stay small beside x.
  SIMMIM_INLINE int64_t chunk() const { return rows() > 1024 ? (rows() + 63) / 64 : 16; }
  SIMMIM_INLINE int64_t chunks() const { return (rows() + chunk() - 1) / chunk(); }
  size_t workspace_bytes() const { return dgamma.present() ? static_cast<size_t>(chunks() * 2 * x.dim(-1)) * 4 : 0; }
  /// On a GPU one block for each chunk: at most 528, four for each multiprocessor of an H100.
  SIMMIM_INLINE int64_t cuda_chunk() const { return rows() > 528 * 16 ? (rows() + 527) / 528 : 16; }
  SIMMIM_INLINE int64_t cuda_chunks() const { return (rows() + cuda_chunk() - 1) / cuda_chunk(); }
  size_t cuda_workspace_bytes() const { return dgamma.present() ? static_cast<size_t>(cuda_chunks() * 2 * x.dim(-1)) * 4 : 0; }
  void check() const {
    require(x.shape.rank >= 1 && x.dim(-1) > 0, "x has no channels, expected [..., C]");
    require(dy.shape == x.shape, "dy has another shape than x");
    require_like("dx", dx, "x", x);
    if (through.present()) require_like("through", through, "x", x);
    check_channels("gamma", gamma, x);
    check_row_values("mean", mean, rows());
    check_row_values("rstd", rstd, rows());
    require(dgamma.present() == dbeta.present(), "dgamma and dbeta come together");
    if (dgamma.present()) check_channels("dgamma", dgamma, x), check_channels("dbeta", dbeta, x);
  }
};

}  // namespace simmim
