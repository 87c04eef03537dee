// y[b, i, j, :] = W patch(b, i, j) + bias: a p x p convolution with stride p (patch embedding of ViT and Swin),
// from planar images to channels-last tokens.
//   images [B, Cin, H, W], weight [C, Cin * p * p] (the convolution's [C, Cin, p, p] flattened), y [B, H/p, W/p, C].
// Patches are unfolded into the workspace (channel, row, column within a patch), then one matrix product.
// 2 B (H/p) (W/p) C Cin p p flops; the workspace is as large as the images, the traffic small beside the product.
#pragma once
#include "../core/spec.h"
#include "linear.h"

namespace simmim {

/// Geometry shared by the kernel and its gradient.
struct PatchGrid {
  int64_t batch, channels, height, width, patch, rows, columns;
  SIMMIM_INLINE int64_t tokens() const { return batch * rows * columns; }
  SIMMIM_INLINE int64_t patch_size() const { return channels * patch * patch; }
};
SIMMIM_INLINE PatchGrid patch_grid(const Tensor& images, int64_t patch) {
  return {images.dim(0), images.dim(1), images.dim(2), images.dim(3), patch, images.dim(2) / patch, images.dim(3) / patch};
}
inline void check_patches(const char* name, const Tensor& images, const Tensor& weight, const Tensor& y, const char* y_name, int32_t patch) {
  require(images.shape.rank == 4, "%s has rank %d, expected 4 = [B, Cin, H, W]", name, images.shape.rank);
  require(patch >= 1, "patch is %d, expected at least 1", patch);
  require(images.dim(2) % patch == 0 && images.dim(3) % patch == 0, "%s are %lldx%lld, expected multiples of the patch size %d", name, (long long)images.dim(2), (long long)images.dim(3), patch);
  require(weight.shape.rank == 2, "weight has rank %d, expected 2 = [C, Cin * p * p]", weight.shape.rank);
  const int64_t inputs = images.dim(1) * patch * patch;
  require(weight.dim(1) == inputs, "weight has %lld inputs, expected %lld = Cin * p * p", (long long)weight.dim(1), (long long)inputs);
  require(y.shape.rank == 4 && y.dim(0) == images.dim(0) && y.dim(1) == images.dim(2) / patch && y.dim(2) == images.dim(3) / patch && y.dim(3) == weight.dim(0),
          "%s has another shape than [B, H/p, W/p, C] = [%lld, %lld, %lld, %lld]", y_name, (long long)images.dim(0), (long long)(images.dim(2) / patch), (long long)(images.dim(3) / patch), (long long)weight.dim(0));
}

struct PatchEmbed {
  static constexpr const char* name = "patch_embed";
  Tensor images;  // [B, Cin, H, W]
  Tensor weight;  // [C, Cin * p * p]
  Tensor bias;    // [C], optional
  Tensor y;       // [B, H/p, W/p, C]
  int32_t patch;
  void* workspace = nullptr;  // unfolded patches [B * H/p * W/p, Cin * p * p] in weight's dtype
  static auto spec() {
    return fields(in("images", &PatchEmbed::images, kF32), in("weight", &PatchEmbed::weight, kFloat), optional_in("bias", &PatchEmbed::bias, kF32),
                  out("y", &PatchEmbed::y, kFloat), par("patch", &PatchEmbed::patch));
  }
  SIMMIM_INLINE size_t workspace_bytes() const { return static_cast<size_t>(images.count()) * size_of(weight.dtype); }
  void check() const {
    check_patches("images", images, weight, y, "y", patch);
    if (bias.present()) require(bias.shape.rank == 1 && bias.dim(0) == weight.dim(0), "bias has %lld values, expected %lld = rows of weight", (long long)bias.count(), (long long)weight.dim(0));
  }
};

/// dweight = dy^T patches, dbias = sum of dy over tokens, dimages = folded dy W. Each output is optional;
/// dweight_sum and dbias_sum are added to (see LinearGrad).
struct PatchEmbedGrad {
  static constexpr const char* name = "patch_embed_grad";
  Tensor dy;      // [B, H/p, W/p, C]
  Tensor images;  // [B, Cin, H, W]
  Tensor weight;  // [C, Cin * p * p], dy's dtype
  Tensor dimages;
  Tensor dweight, dweight_sum;  // [C, Cin * p * p]
  Tensor dbias, dbias_sum;      // [C]
  int32_t patch;
  void* workspace = nullptr;    // unfolded patches in dy's dtype; for dimages their f32 gradients; then LinearGrad's
  static auto spec() {
    return fields(in("dy", &PatchEmbedGrad::dy, kFloat), in("images", &PatchEmbedGrad::images, kF32), in("weight", &PatchEmbedGrad::weight, kFloat),
                  optional_out("dimages", &PatchEmbedGrad::dimages, kF32), optional_out("dweight", &PatchEmbedGrad::dweight, kF32),
                  optional_inout("dweight_sum", &PatchEmbedGrad::dweight_sum, kF32), optional_out("dbias", &PatchEmbedGrad::dbias, kF32),
                  optional_inout("dbias_sum", &PatchEmbedGrad::dbias_sum, kF32), par("patch", &PatchEmbedGrad::patch));
  }
  SIMMIM_INLINE bool wants_weight() const { return dweight.present() || dweight_sum.present(); }
  SIMMIM_INLINE size_t unfolded_bytes() const { return wants_weight() ? (static_cast<size_t>(images.count()) * size_of(dy.dtype) + 63) / 64 * 64 : 0; }
  SIMMIM_INLINE size_t folded_bytes() const { return dimages.present() ? (static_cast<size_t>(images.count()) * 4 + 63) / 64 * 64 : 0; }
  /// The gradient as a dense layer on unfolded patches [tokens, Cin * p * p], still without its workspace.
  SIMMIM_INLINE LinearGrad dense() const {
    LinearGrad k{};
    k.dy = dy;
    k.dy.shape.rank = 2;
    k.dy.shape.dims[0] = patch_grid(images, patch).tokens();
    k.dy.shape.dims[1] = dy.dim(3);
    k.weight = weight;
    k.dweight = dweight, k.dweight_sum = dweight_sum, k.dbias = dbias, k.dbias_sum = dbias_sum;
    return k;
  }
  /// The same with its patches, their gradients and its workspace inside ours.
  SIMMIM_INLINE LinearGrad dense_inside() const {
    LinearGrad k = dense();
    Tensor patches = k.dy;  // [tokens, Cin * p * p]
    patches.shape.dims[1] = patch_grid(images, patch).patch_size();
    char* const place = static_cast<char*>(workspace);
    patches.data = wants_weight() ? place : nullptr;
    k.x = patches;
    patches.data = dimages.present() ? place + unfolded_bytes() : nullptr;
    patches.dtype = DType::f32;
    k.dx = patches;
    k.workspace = k.workspace_bytes() ? place + unfolded_bytes() + folded_bytes() : nullptr;
    return k;
  }
  SIMMIM_INLINE size_t workspace_bytes() const { return unfolded_bytes() + folded_bytes() + dense().workspace_bytes(); }
  void check() const {
    check_patches("images", images, weight, dy, "dy", patch);
    require(weight.dtype == dy.dtype, "weight is %s, expected %s as dy", name_of(weight.dtype), name_of(dy.dtype));
    if (dimages.present()) require(dimages.shape == images.shape, "dimages has another shape than images");
    for (const Tensor* t : {&dweight, &dweight_sum})
      if (t->present()) require(t->shape == weight.shape, "dweight has another shape than weight, [%lld, %lld]", (long long)weight.dim(0), (long long)weight.dim(1));
    for (const Tensor* t : {&dbias, &dbias_sum})
      if (t->present()) require(t->shape.rank == 1 && t->dim(0) == dy.dim(3), "dbias has %lld values, expected %lld = channels of dy", (long long)t->count(), (long long)dy.dim(3));
  }
};

}  // namespace simmim
