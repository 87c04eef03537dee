// y = sqrt(sum flat²): the L2 norm of all gradients, and flat *= min(1, clip / (norm + 1e-6)), the clipping by it
// (torch.nn.utils.clip_grad_norm_).
//   flat [n] -> scalar. Parallel over blocks, whose sums are combined in double and in order. 4 bytes an element; clipping 8.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct GradNorm {
  static constexpr const char* name = "grad_norm";
  Tensor flat;  // [n]
  Tensor y;     // scalar
  void* workspace = nullptr;  // sums of the blocks, double [blocks]
  static auto spec() { return fields(in("flat", &GradNorm::flat, kF32), out("y", &GradNorm::y, kF32)); }
  static constexpr int64_t kBlock = 1 << 16;
  SIMMIM_INLINE int64_t blocks() const { return (flat.count() + kBlock - 1) / kBlock; }
  size_t workspace_bytes() const { return static_cast<size_t>(blocks()) * 8; }
  void check() const { require(y.count() == 1, "y has %lld values, expected a scalar", (long long)y.count()); }
};

/// Multiplies in every case, by 1 below the limit, as PyTorch does: a norm of NaN spreads.
struct GradClip {
  static constexpr const char* name = "grad_clip";
  Tensor flat;  // [n]
  Tensor norm;  // scalar, of flat
  float clip;
  static auto spec() { return fields(inout("flat", &GradClip::flat, kF32), in("norm", &GradClip::norm, kF32), par("clip", &GradClip::clip)); }
  void check() const {
    require(norm.count() == 1, "norm has %lld values, expected a scalar", (long long)norm.count());
    require(clip > 0, "clip is %g, expected above 0", clip);
  }
};

}  // namespace simmim
