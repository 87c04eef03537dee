// Regression loss over hidden pixels, sum(loss(target - image) m) / (sum(m) + 1e-5) / I with m the mask at pixel size
// (SimMIM section 3.4; official simmim.py), and its gradient in pred. `image` is pred pixel-shuffled, by index: it is never laid out.
//   pred [B, h, w, I r r], feature order (c, i, j), r = H/h; target [B, I, H, W]; mask [B, H/p, W/p] with 1 = hidden -> scalar; pred f32 or bf16.
// Parallel over rows of cells; their sums are combined in double and in order. Runs of pixels that are not hidden are not read.
// `scale` = 1 / (sum(m) + 1e-5) / I is saved for the gradient. 8 bytes a hidden value forward, 12 backward.
#pragma once
#include "../core/spec.h"

namespace simmim {

enum class LossKind : int32_t { l1 = 0, l2 = 1, smooth_l1 = 2 };

inline void check_masked_loss(const Tensor& pred, const Tensor& target, const Tensor& mask, int32_t kind, double beta) {
  require(pred.shape.rank == 4, "pred has rank %d, expected 4 = [B, h, w, I*r*r]", pred.shape.rank);
  require(target.shape.rank == 4 && target.count() > 0, "target of rank %d has %lld values, expected [B, I, H, W]", target.shape.rank, (long long)target.count());
  require(mask.shape.rank == 3, "mask has rank %d, expected 3 = [B, H/p, W/p]", mask.shape.rank);
  const int64_t batch = target.dim(0), planes = target.dim(1), height = target.dim(2), width = target.dim(3);
  require(pred.dim(0) == batch && mask.dim(0) == batch, "pred has %lld and mask %lld samples, expected %lld as target", (long long)pred.dim(0), (long long)mask.dim(0), (long long)batch);
  require(pred.dim(1) > 0 && height % pred.dim(1) == 0 && width == height / pred.dim(1) * pred.dim(2), "pred has a %lld x %lld map, expected one whose cells are equal squares of the %lld x %lld target",
          (long long)pred.dim(1), (long long)pred.dim(2), (long long)height, (long long)width);
  const int64_t r = height / pred.dim(1);
  require(pred.dim(3) == planes * r * r, "pred has %lld features, expected %lld = I * r * r", (long long)pred.dim(3), (long long)(planes * r * r));
  require(mask.dim(1) > 0 && height % mask.dim(1) == 0 && width == height / mask.dim(1) * mask.dim(2), "mask has a %lld x %lld map, expected one whose cells are equal squares of the %lld x %lld target",
          (long long)mask.dim(1), (long long)mask.dim(2), (long long)height, (long long)width);
  require(kind >= 0 && kind <= 2, "kind is %d, expected 0 (l1), 1 (l2) or 2 (smooth_l1)", kind);
  require(beta > 0, "beta is %g, expected a positive number", beta);
}

struct MaskedLoss {
  static constexpr const char* name = "masked_loss";
  Tensor pred;    // [B, h, w, I r r]
  Tensor target;  // [B, I, H, W]
  Tensor mask;    // [B, H/p, W/p]
  Tensor loss;    // scalar
  Tensor scale;   // scalar, for the gradient
  int32_t kind;
  float beta;     // of smooth_l1
  void* workspace = nullptr;  // double [B h] sums, then float [B h, r] the mask of a row of a cell's pixels
  static auto spec() {
    return fields(in("pred", &MaskedLoss::pred, kFloat), in("target", &MaskedLoss::target, kF32), in("mask", &MaskedLoss::mask, kF32), out("loss", &MaskedLoss::loss, kF32),
                  out("scale", &MaskedLoss::scale, kF32), par("kind", &MaskedLoss::kind), par("beta", &MaskedLoss::beta));
  }
  size_t workspace_bytes() const { return static_cast<size_t>(pred.dim(0) * pred.dim(1)) * 8 + static_cast<size_t>(pred.dim(0) * target.dim(2)) * 4; }
  /// On a GPU: the sums of the losses, then of the mask, of blocks of kCudaRows rows of pixels.
  static constexpr int64_t kCudaRows = 32;
  SIMMIM_INLINE int64_t cuda_blocks() const { return (target.shape.span(0, 3) + kCudaRows - 1) / kCudaRows; }
  size_t cuda_workspace_bytes() const { return static_cast<size_t>(cuda_blocks()) * 16; }
  void check() const {
    check_masked_loss(pred, target, mask, kind, beta);
    require(loss.count() == 1 && scale.count() == 1, "loss and scale have %lld and %lld values, expected scalars", (long long)loss.count(), (long long)scale.count());
  }
};

/// dpred = dy scale m dloss/dpred, 0 where nothing is hidden.
struct MaskedLossGrad {
  static constexpr const char* name = "masked_loss_grad";
  Tensor dy;      // scalar
  Tensor pred;    // [B, h, w, I r r]
  Tensor target;  // [B, I, H, W]
  Tensor mask;    // [B, H/p, W/p]
  Tensor scale;   // scalar
  Tensor dpred;   // [B, h, w, I r r]
  int32_t kind;
  float beta;
  void* workspace = nullptr;  // float [B h, r]
  static auto spec() {
    return fields(in("dy", &MaskedLossGrad::dy, kF32), in("pred", &MaskedLossGrad::pred, kFloat), in("target", &MaskedLossGrad::target, kF32), in("mask", &MaskedLossGrad::mask, kF32),
                  in("scale", &MaskedLossGrad::scale, kF32), out("dpred", &MaskedLossGrad::dpred, kFloat), par("kind", &MaskedLossGrad::kind), par("beta", &MaskedLossGrad::beta));
  }
  size_t workspace_bytes() const { return static_cast<size_t>(pred.dim(0) * target.dim(2)) * 4; }
  size_t cuda_workspace_bytes() const { return 0; }
  void check() const {
    check_masked_loss(pred, target, mask, kind, beta);
    require(dy.count() == 1 && scale.count() == 1, "dy and scale have %lld and %lld values, expected scalars", (long long)dy.count(), (long long)scale.count());
    require_like("dpred", dpred, "pred", pred);
  }
};

}  // namespace simmim
