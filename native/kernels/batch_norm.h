// y = (x - mean) / sqrt(variance + eps) * scale + offset with one mean, variance, scale and offset per channel (last dim).
// Parallel over rows and bands of channels. Bytes: one read of x, one write of y.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct BatchNorm {
  static constexpr const char* name = "batch_norm";
  Tensor x, mean, variance, scale, offset, y;  // [N, C], [C] ...
  float eps;
  void* workspace = nullptr;
  static auto spec() {
    return fields(in("x", &BatchNorm::x, kF32), in("mean", &BatchNorm::mean, kF32), in("variance", &BatchNorm::variance, kF32), optional_in("scale", &BatchNorm::scale, kF32), optional_in("offset", &BatchNorm::offset, kF32), out("y", &BatchNorm::y, kF32),
                  par("eps", &BatchNorm::eps));
  }
  void check() const {
    require(x.shape.rank == 2 && x.shape == y.shape, "x and y must have the same shape of rank 2, x has rank %d", x.shape.rank);
    const int64_t c = x.dim(1);
    require(mean.count() == c && variance.count() == c && (!scale.present() || scale.count() == c) && (!offset.present() || offset.count() == c), "mean, variance, scale and offset must have %lld values", static_cast<long long>(c));
  }
  size_t workspace_bytes() const { return static_cast<size_t>(x.dim(1)) * 4; }
};

}  // namespace simmim
