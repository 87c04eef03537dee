// The tokens that enter the blocks: y = x (1 - m) + token m, hidden tokens replaced by the mask token (SimMIM section 3.2;
// official simmim.py), a class token in front where there is one (ViT), learnt positions added; and the gradient.
//   x [B, L, C], token [C], mask [B, L] with 1 = hidden, class_token [C], positions [P + L, C], y [B, P + L, C], P = 1 with a
//   class token, else 0. x and y each f32 or bf16 (dx as x, dy as y), parameters and their gradients f32.
// Parallel over blocks of tokens. Nothing is saved but the mask. A token of mask 1 is written without reading x.
// dtoken is summed over chunks of tokens and then over chunks, dpositions and dclass_token over the batch, in order.
// x is read and y written once, also backwards: no joined map but y exists.
#pragma once
#include "../core/spec.h"

namespace simmim {

/// Checks what MaskTokens and its gradient share: `map` is x or dx, `tokens` y or dy.
inline void check_token_mask(const Tensor& mask, const Tensor& map, const char* map_name) {
  require(mask.shape.rank == 2 && mask.dim(0) == map.dim(0) && mask.dim(1) == map.dim(1), "mask has %lld values of rank %d, expected [B, L] = [%lld, %lld] of %s",
          (long long)mask.count(), mask.shape.rank, (long long)map.dim(0), (long long)map.dim(1), map_name);
}
inline void check_token_vector(const char* name, const Tensor& t, int64_t channels) {
  require(t.shape.rank == 1 && t.dim(0) == channels, "%s has %lld values, expected %lld = channels", name, (long long)t.count(), (long long)channels);
}
inline void check_token_maps(const char* map_name, const Tensor& map, const char* tokens_name, const Tensor& tokens, int64_t in_front) {
  require(map.shape.rank == 3, "%s has rank %d, expected 3 = [B, L, C]", map_name, map.shape.rank);
  require(tokens.shape.rank == 3 && tokens.dim(0) == map.dim(0) && tokens.dim(1) == map.dim(1) + in_front && tokens.dim(2) == map.dim(2), "%s has another shape than [B, P + L, C] = [%lld, %lld, %lld]",
          tokens_name, (long long)map.dim(0), (long long)(map.dim(1) + in_front), (long long)map.dim(2));
}
inline void check_positions(const char* name, const Tensor& positions, const Tensor& tokens) {
  require(positions.shape.rank == 2 && positions.dim(0) == tokens.dim(1) && positions.dim(1) == tokens.dim(2), "%s has %lld values, expected [P + L, C] = [%lld, %lld]", name,
          (long long)positions.count(), (long long)tokens.dim(1), (long long)tokens.dim(2));
}

struct MaskTokens {
  static constexpr const char* name = "mask_tokens";
  Tensor x;            // [B, L, C]
  Tensor token;        // [C], together with mask or not at all
  Tensor mask;         // [B, L]
  Tensor class_token;  // [C], optional
  Tensor positions;    // [P + L, C], optional
  Tensor y;            // [B, P + L, C]
  static auto spec() {
    return fields(in("x", &MaskTokens::x, kFloat), optional_in("token", &MaskTokens::token, kF32), optional_in("mask", &MaskTokens::mask, kF32),
                  optional_in("class_token", &MaskTokens::class_token, kF32), optional_in("positions", &MaskTokens::positions, kF32), out("y", &MaskTokens::y, kFloat));
  }
  void check() const {
    check_token_maps("x", x, "y", y, class_token.present() ? 1 : 0);
    require(token.present() == mask.present(), "token and mask come together");
    if (mask.present()) check_token_mask(mask, x, "x"), check_token_vector("token", token, x.dim(2));
    if (class_token.present()) check_token_vector("class_token", class_token, x.dim(2));
    if (positions.present()) check_positions("positions", positions, y);
  }
};

/// dx = dy (1 - m); dtoken = sum of dy m over all tokens; dclass_token = sum of dy's first token and dpositions = sum of dy
/// over the batch. Each output is optional; dclass_token says that dy has a class token, `in_front` does so without it.
struct MaskTokensGrad {
  static constexpr const char* name = "mask_tokens_grad";
  Tensor dy;            // [B, P + L, C]
  Tensor mask;          // [B, L]
  Tensor dx;            // [B, L, C]
  Tensor dtoken;        // [C]
  Tensor dclass_token;  // [C]
  Tensor dpositions;    // [P + L, C]
  int32_t in_front;     // P
  void* workspace = nullptr;  // sums of the chunks [chunks, C]
  static auto spec() {
    return fields(in("dy", &MaskTokensGrad::dy, kFloat), optional_in("mask", &MaskTokensGrad::mask, kF32), optional_out("dx", &MaskTokensGrad::dx, kFloat),
                  optional_out("dtoken", &MaskTokensGrad::dtoken, kF32), optional_out("dclass_token", &MaskTokensGrad::dclass_token, kF32),
                  optional_out("dpositions", &MaskTokensGrad::dpositions, kF32), par("in_front", &MaskTokensGrad::in_front));
  }
  static constexpr int64_t kChunk = 256;  // tokens summed in one go
  SIMMIM_INLINE int64_t length() const { return dy.dim(1) - in_front; }
  SIMMIM_INLINE int64_t tokens() const { return dy.dim(0) * length(); }
  SIMMIM_INLINE int64_t chunks() const { return (tokens() + kChunk - 1) / kChunk; }
  size_t workspace_bytes() const { return dtoken.present() ? static_cast<size_t>(chunks() * dy.dim(2)) * 4 : 0; }
  void check() const {
    require(in_front == 0 || in_front == 1, "in_front is %d, expected 0 or 1 class tokens", in_front);
    require(dy.shape.rank == 3 && dy.dim(1) >= in_front, "dy has rank %d, expected 3 = [B, P + L, C]", dy.shape.rank);
    Tensor map = dy;
    map.shape.dims[1] = length();
    if (dx.present()) check_token_maps("dx", dx, "dy", dy, in_front);
    if (mask.present()) check_token_mask(mask, map, "dy");
    require(!dtoken.present() || mask.present(), "dtoken is wanted without mask");
    if (dtoken.present()) check_token_vector("dtoken", dtoken, dy.dim(2));
    require(!dclass_token.present() || in_front == 1, "dclass_token is wanted of a dy without class token");
    if (dclass_token.present()) check_token_vector("dclass_token", dclass_token, dy.dim(2));
    if (dpositions.present()) check_positions("dpositions", dpositions, dy);
  }
};

}  // namespace simmim
