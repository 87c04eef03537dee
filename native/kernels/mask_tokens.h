// y = x (1 - m) + token m: hidden tokens are replaced by the mask token (SimMIM section 3.2; official
// swin_transformer.py), and its gradient.
//   x, y [B, L, C], token [C], mask [B, L] with 1 = hidden.
// Parallel over blocks of tokens. Nothing is saved but the mask. Rows of mask 0 are copied and of mask 1 written
// without reading x. dtoken is summed over chunks of tokens and then over chunks, in order.
#pragma once
#include "../core/kernel.h"

namespace simmim {

inline void check_token_mask(const Tensor& mask, const Tensor& x) {
  require(x.shape.rank == 3, "x has rank %d, expected 3 = [B, L, C]", x.shape.rank);
  require(mask.shape.rank == 2 && mask.dim(0) == x.dim(0) && mask.dim(1) == x.dim(1), "mask has %lld values of rank %d, expected [B, L] = [%lld, %lld]",
          (long long)mask.count(), mask.shape.rank, (long long)x.dim(0), (long long)x.dim(1));
}

struct MaskTokens {
  static constexpr const char* name = "mask_tokens";
  Tensor x;      // [B, L, C]
  Tensor token;  // [C]
  Tensor mask;   // [B, L]
  Tensor y;      // [B, L, C]
  static constexpr auto spec() {
    return fields(in("x", &MaskTokens::x, kF32), in("token", &MaskTokens::token, kF32), in("mask", &MaskTokens::mask, kF32), out("y", &MaskTokens::y, kF32));
  }
  void check() const {
    check_token_mask(mask, x);
    require(token.shape.rank == 1 && token.dim(0) == x.dim(2), "token has %lld values, expected %lld = channels of x", (long long)token.count(), (long long)x.dim(2));
    require(y.shape == x.shape, "y has another shape than x");
  }
};

/// dx = dy (1 - m); dtoken = sum of dy m over all tokens.
struct MaskTokensGrad {
  static constexpr const char* name = "mask_tokens_grad";
  Tensor dy;      // [B, L, C]
  Tensor mask;    // [B, L]
  Tensor dx;      // [B, L, C]
  Tensor dtoken;  // [C]
  void* workspace = nullptr;  // sums of the chunks [chunks, C]
  static constexpr auto spec() {
    return fields(in("dy", &MaskTokensGrad::dy, kF32), in("mask", &MaskTokensGrad::mask, kF32), optional_out("dx", &MaskTokensGrad::dx, kF32),
                  optional_out("dtoken", &MaskTokensGrad::dtoken, kF32));
  }
  static constexpr int64_t kChunk = 256;  // tokens summed in one go
  SIMMIM_INLINE int64_t tokens() const { return dy.dim(0) * dy.dim(1); }
  SIMMIM_INLINE int64_t chunks() const { return (tokens() + kChunk - 1) / kChunk; }
  size_t workspace_bytes() const { return dtoken.present() ? static_cast<size_t>(chunks() * dy.dim(2)) * 4 : 0; }
  void check() const {
    check_token_mask(mask, dy);
    if (dx.present()) require(dx.shape == dy.shape, "dx has another shape than dy");
    if (dtoken.present()) require(dtoken.shape.rank == 1 && dtoken.dim(0) == dy.dim(2), "dtoken has %lld values, expected %lld = channels of dy", (long long)dtoken.count(), (long long)dy.dim(2));
  }
};

}  // namespace simmim
