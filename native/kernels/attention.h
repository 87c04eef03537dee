// y = softmax(scale q k^T + bias) v for every image and head (Vaswani et al. 2017; the official ViT with its
// relative position bias), and its gradient.
//   qkv [B, L, 3C] in the order q | k | v, then head, then d; bias [heads, L, L] optional; y [B, L, C].
// Parallel over (image, head), queries in blocks of 48. Nothing is saved: the gradient recomputes the
// probabilities from qkv. 4 B L^2 C flops forward, 10 B L^2 C for the gradient; qkv is read once per pass.
#pragma once
#include "../core/spec.h"

namespace simmim {

inline void check_qkv(const Tensor& qkv, int rank, int32_t heads) {
  require(qkv.shape.rank == rank, "qkv has rank %d, expected %d", qkv.shape.rank, rank);
  require(heads >= 1, "heads is %d, expected at least 1", heads);
  require(qkv.dim(-1) % (3 * int64_t{heads}) == 0, "qkv has %lld channels, expected a multiple of %lld = 3 * heads", (long long)qkv.dim(-1), 3LL * heads);
}
/// As qkv, with a third of its channels.
inline void check_mixed(const char* name, const Tensor& y, const Tensor& qkv) {
  require(y.shape.rank == qkv.shape.rank && y.dtype == qkv.dtype, "%s has rank %d and dtype %s, expected %d and %s as qkv", name, y.shape.rank, name_of(y.dtype), qkv.shape.rank, name_of(qkv.dtype));
  for (int i = 0; i < qkv.shape.rank; i++) {
    const int64_t expected = i + 1 < qkv.shape.rank ? qkv.dim(i) : qkv.dim(i) / 3;
    require(y.dim(i) == expected, "%s has dimension %d of %lld, expected %lld", name, i, (long long)y.dim(i), (long long)expected);
  }
}
/// What the gradient on a GPU keeps of each row of the scores: its maximum, 1 / sum of its exponentials, sum of p dp, and
/// (of cosine attention) the product of the normalised query and its gradient.
constexpr int64_t kRowNumbers = 4;
SIMMIM_INLINE size_t attention_rows_bytes(int64_t instances, int64_t heads, int64_t tokens) { return static_cast<size_t>(instances * heads * tokens * kRowNumbers) * 4; }

/// Groups of instances for the blocks of the tensor-core gradient, about 16 blocks for each multiprocessor of an H100; a block
/// sums the gradient of its bias over its group into [n, n], all of them together at most 64 MiB.
SIMMIM_INLINE int64_t tile_groups(int64_t instances, int64_t heads, int64_t n) {
  const int64_t fitting = (int64_t{64} << 20) / (heads * n * n * 4 + 1), wish = heads < 2112 ? 2112 / heads : 1;
  const int64_t groups = wish < fitting ? wish : fitting > 0 ? fitting : 1;
  return groups < instances ? groups : instances;
}
/// [groups, heads, n, n] for the bias, then [groups, heads, tiles of 16 rows] for the scales of cosine attention.
constexpr int64_t kTileTokens = 256;  // the most that a block takes
SIMMIM_INLINE size_t tile_sums_bytes(int64_t instances, int64_t heads, int64_t n) {
  if (n > kTileTokens) return 0;
  return static_cast<size_t>(tile_groups(instances, heads, n) * heads * (n * n + (n + 15) / 16)) * 4;
}
SIMMIM_INLINE size_t larger(size_t a, size_t b) { return a > b ? a : b; }

struct Attention {
  static constexpr const char* name = "attention";
  Tensor qkv, bias, y;
  int32_t heads;
  float scale;
  static auto spec() {
    return fields(in("qkv", &Attention::qkv, kFloat), optional_in("bias", &Attention::bias, kF32), out("y", &Attention::y, kFloat), par("heads", &Attention::heads), par("scale", &Attention::scale));
  }
  static void check_bias(const char* name, const Tensor& bias, const Tensor& qkv, int32_t heads) {
    require(bias.shape.rank == 3 && bias.dim(0) == heads && bias.dim(1) == qkv.dim(1) && bias.dim(2) == qkv.dim(1), "%s has %lld values, expected [heads, L, L] = [%d, %lld, %lld]", name, (long long)bias.count(), heads, (long long)qkv.dim(1), (long long)qkv.dim(1));
  }
  void check() const {
    check_qkv(qkv, 3, heads);
    if (bias.present()) check_bias("bias", bias, qkv, heads);
    check_mixed("y", y, qkv);
  }
};

/// The bias gradient is summed over images: in up to kGroups groups of images, then over groups, both in order.
struct AttentionGrad {
  static constexpr const char* name = "attention_grad";
  static constexpr int64_t kGroups = 4;
  Tensor dy, qkv, bias, dqkv, dbias;
  int32_t heads;
  float scale;
  void* workspace = nullptr;  // [groups, heads, L, L] when dbias is wanted
  static auto spec() {
    return fields(in("dy", &AttentionGrad::dy, kFloat), in("qkv", &AttentionGrad::qkv, kFloat), optional_in("bias", &AttentionGrad::bias, kF32), out("dqkv", &AttentionGrad::dqkv, kFloat),
                  optional_out("dbias", &AttentionGrad::dbias, kF32), par("heads", &AttentionGrad::heads), par("scale", &AttentionGrad::scale));
  }
  SIMMIM_INLINE int64_t groups() const { return qkv.dim(0) < kGroups ? qkv.dim(0) : kGroups; }
  size_t workspace_bytes() const { return dbias.present() ? static_cast<size_t>(groups() * dbias.count()) * 4 : 0; }
  size_t cuda_workspace_bytes() const { return larger(attention_rows_bytes(qkv.dim(0), heads, qkv.dim(1)), dbias.present() ? tile_sums_bytes(qkv.dim(0), heads, qkv.dim(1)) : 0); }
  void check() const {
    check_qkv(qkv, 3, heads);
    check_mixed("dy", dy, qkv);
    require_like("dqkv", dqkv, "qkv", qkv);
    if (bias.present()) Attention::check_bias("bias", bias, qkv, heads);
    if (dbias.present()) Attention::check_bias("dbias", dbias, qkv, heads);
  }
};

}  // namespace simmim
