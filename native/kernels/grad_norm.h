// y = sqrt(sum flat²): the L2 norm of all gradients (torch.nn.utils.clip_grad_norm_).
//   flat [n] -> scalar. Parallel over blocks, whose sums are combined in double and in order. 4 bytes an element.
#pragma once
#include "../core/kernel.h"

namespace simmim {

struct GradNorm {
  static constexpr const char* name = "grad_norm";
  Tensor flat;  // [n]
  Tensor y;     // scalar
  void* workspace = nullptr;  // sums of the blocks, double [blocks]
  static constexpr auto spec() { return fields(in("flat", &GradNorm::flat, kF32), out("y", &GradNorm::y, kF32)); }
  static constexpr int64_t kBlock = 1 << 16;
  SIMMIM_INLINE int64_t blocks() const { return (flat.count() + kBlock - 1) / kBlock; }
  size_t workspace_bytes() const { return static_cast<size_t>(blocks()) * 8; }
  void check() const { require(y.count() == 1, "y has %lld values, expected a scalar", (long long)y.count()); }
};

}  // namespace simmim
