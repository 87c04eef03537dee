// Lays the features of each cell out as r x r pixels: pred [B, h, w, I r r], feature order (c, i, j) -> planar
// y [B, I, h r, w r] (torch.nn.PixelShuffle on channels-last input), and its gradient, the inverse permutation.
// Parallel over rows of cells. Each element is read and written once, f32 or bf16.
#pragma once
#include "../core/spec.h"

namespace simmim {

inline void check_shuffled(const Tensor& cells, const Tensor& image) {
  require(cells.shape.rank == 4, "pred has rank %d, expected 4 = [B, h, w, I*r*r]", cells.shape.rank);
  require(image.shape.rank == 4 && image.dim(0) == cells.dim(0), "y has rank %d, expected 4 = [B, I, H, W] with B = %lld", image.shape.rank, (long long)cells.dim(0));
  require(image.dtype == cells.dtype, "y is %s, expected %s as pred", name_of(image.dtype), name_of(cells.dtype));
  if (image.count() == 0 && cells.count() == 0) return;
  require(cells.dim(1) > 0 && cells.dim(2) > 0, "pred has no cells");
  const int64_t r = image.dim(2) / cells.dim(1);
  require(image.dim(2) == r * cells.dim(1) && image.dim(3) == r * cells.dim(2) && cells.dim(3) == image.dim(1) * r * r,
          "pred of %lld x %lld cells with %lld features does not make %lld planes of %lld x %lld pixels", (long long)cells.dim(1), (long long)cells.dim(2),
          (long long)cells.dim(3), (long long)image.dim(1), (long long)image.dim(2), (long long)image.dim(3));
}

struct PixelShuffle {
  static constexpr const char* name = "pixel_shuffle";
  Tensor pred;  // [B, h, w, I r r]
  Tensor y;     // [B, I, h r, w r]
  static auto spec() { return fields(in("pred", &PixelShuffle::pred, kFloat), out("y", &PixelShuffle::y, kFloat)); }
  void check() const { check_shuffled(pred, y); }
};

struct PixelShuffleGrad {
  static constexpr const char* name = "pixel_shuffle_grad";
  Tensor dy;     // [B, I, h r, w r]
  Tensor dpred;  // [B, h, w, I r r]
  static auto spec() { return fields(in("dy", &PixelShuffleGrad::dy, kFloat), out("dpred", &PixelShuffleGrad::dpred, kFloat)); }
  void check() const { check_shuffled(dpred, dy); }
};

}  // namespace simmim
