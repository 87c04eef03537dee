// y = residual + GELU(x W1^T + b1) W2^T + b2, the two-layer perceptron of a transformer block (exact GELU), and its gradient.
//   x [..., I], W1 [H, I], b1 [H], W2 [O, H], b2 [O], residual and y [..., O]; R = rows = product of x's leading dimensions.
// Only the pre-activation `pre` = x W1^T + b1 [..., H] is kept for the gradient: GELU(pre) is made again, block of rows
// by block of rows, so that it stays in cache and never exists whole. Parallel within each product (cpu/gemm.h).
// 2 R H (I + O) flops forward, twice that for the gradient; x, residual and y cross memory once, pre once forward and
// twice for the gradient, the weights once per block of rows.
//
// `rows` and `fill` are linear.h's: y = residual + rows[i] (...), `fill` or the residual alone where rows[i] is 0. On the CPU `pre` then holds
// the rows that count one after another.
#pragma once
#include "linear.h"

namespace simmim {

/// Cut of R rows: as few blocks as may be, of one size (the last one shorter). It follows from the shape alone, because it
/// decides the bits of the weights' gradients.
struct MlpBlocks {
  static constexpr int64_t kMost = 2048;  // 4 to 16 MB of hidden activations in the usual models
  int64_t count, size;
};
SIMMIM_INLINE MlpBlocks mlp_blocks(int64_t rows, int64_t most = MlpBlocks::kMost) {
  const int64_t least = (rows + most - 1) / most, size = least > 0 ? (rows + least - 1) / least : 0;
  return {size > 0 ? (rows + size - 1) / size : 0, size};
}
/// On a GPU: blocks whose hidden activations take about 32 MiB and stay in its cache, but enough rows to fill it.
SIMMIM_INLINE MlpBlocks cuda_mlp_blocks(int64_t rows, int64_t hidden, DType dtype) {
  const int64_t fitting = hidden > 0 ? (int64_t{32} << 20) / (hidden * static_cast<int64_t>(size_of(dtype))) : rows;
  return mlp_blocks(rows, fitting > 4096 ? fitting : 4096);
}
SIMMIM_INLINE size_t mlp_hidden_bytes(const MlpBlocks& blocks, int64_t hidden, DType dtype) {
  return (static_cast<size_t>(blocks.size * hidden) * size_of(dtype) + 63) / 64 * 64;
}

/// `hidden` of a block, where it is the number of rows that decides how many there are.
SIMMIM_INLINE MlpBlocks largest_mlp_block(int64_t rows) { return {1, rows < MlpBlocks::kMost ? rows : MlpBlocks::kMost}; }

inline void check_mlp_weights(const Tensor& x, const Tensor& w1, const Tensor& w2) {
  require(x.shape.rank >= 1, "x is a scalar, expected [..., I]");
  require(w1.shape.rank == 2, "w1 has rank %d, expected 2 = [H, I]", w1.shape.rank);
  require(w2.shape.rank == 2, "w2 has rank %d, expected 2 = [O, H]", w2.shape.rank);
  require(w1.dim(1) == x.dim(-1), "w1 has %lld inputs, expected %lld = channels of x", (long long)w1.dim(1), (long long)x.dim(-1));
  require(w2.dim(1) == w1.dim(0), "w2 has %lld inputs, expected %lld = rows of w1", (long long)w2.dim(1), (long long)w1.dim(0));
  require(w1.dtype == x.dtype, "w1 is %s, expected %s as x", name_of(w1.dtype), name_of(x.dtype));
  require(w2.dtype == x.dtype, "w2 is %s, expected %s as x", name_of(w2.dtype), name_of(x.dtype));
}
inline void check_mlp_bias(const char* name, const Tensor& t, int64_t outputs, const char* weight) {
  require(t.shape.rank == 1 && t.dim(0) == outputs, "%s has %lld values, expected %lld = rows of %s", name, (long long)t.count(), (long long)outputs, weight);
}

struct Mlp {
  static constexpr const char* name = "mlp";
  Tensor x;         // [..., I]
  Tensor w1;        // [H, I], x's dtype
  Tensor b1;        // [H]
  Tensor w2;        // [O, H], x's dtype
  Tensor b2;        // [O]
  Tensor residual;  // [..., O], optional
  Tensor rows;      // [...], optional: factors of the rows; where it is 0, x is finite and does not matter
  Tensor fill;      // [O], optional beside rows: y where they are 0; otherwise the residual, or zeros
  Tensor y;         // [..., O]
  Tensor pre;       // [..., H], optional
  void* workspace = nullptr;  // hidden activations of a block of rows, x's dtype; with rows their x and y, then int32 [R] their places
  static auto spec() {
    return fields(in("x", &Mlp::x, kFloat), in("w1", &Mlp::w1, kFloat), in("b1", &Mlp::b1, kF32), in("w2", &Mlp::w2, kFloat), in("b2", &Mlp::b2, kF32),
                  optional_in("residual", &Mlp::residual, kFloat), optional_in("rows", &Mlp::rows, kF32), optional_in("fill", &Mlp::fill, kF32),
                  out("y", &Mlp::y, kFloat), optional_out("pre", &Mlp::pre, kFloat));
  }
  SIMMIM_INLINE int64_t row_count() const { return x.shape.span(0, x.shape.rank - 1); }
  SIMMIM_INLINE size_t hidden_bytes() const { return mlp_hidden_bytes(rows.present() ? largest_mlp_block(row_count()) : mlp_blocks(row_count()), w1.dim(0), x.dtype); }
  size_t workspace_bytes() const {
    return hidden_bytes() + (rows.present() ? whole_lines(x.bytes()) + whole_lines(y.bytes()) + static_cast<size_t>(rows.count()) * 4 : 0);
  }
  size_t cuda_workspace_bytes() const { return mlp_hidden_bytes(cuda_mlp_blocks(row_count(), w1.dim(0), x.dtype), w1.dim(0), x.dtype); }
  void check() const {
    check_mlp_weights(x, w1, w2);
    check_mlp_bias("b1", b1, w1.dim(0), "w1");
    check_mlp_bias("b2", b2, w2.dim(0), "w2");
    if (residual.present()) check_linear_output("residual", residual, x, w2.dim(0));
    if (rows.present()) check_linear_rows(rows, "x", x);
    require(!fill.present() || rows.present(), "fill is given without rows");
    if (fill.present()) check_mlp_bias("fill", fill, w2.dim(0), "w2");
    check_linear_output("y", y, x, w2.dim(0));
    if (pre.present()) check_linear_output("pre", pre, x, w1.dim(0));
  }
};

/// With h = GELU(pre) and dz = (dy W2) * GELU'(pre): dx = dz W1, dw1 = dz^T x, dw2 = dy^T h, db1 and db2 the sums of dz
/// and dy over rows. With `rows`, dy counts rows[i] times in these; dfill and dresidual, and the residual's gradient without it, are linear_grad's.
struct MlpGrad {
  static constexpr const char* name = "mlp_grad";
  Tensor dy;   // [..., O]; f32 from a residual stream in f32, also where x is bf16
  Tensor x;    // [..., I]
  Tensor w1;   // [H, I], x's dtype
  Tensor w2;   // [O, H], x's dtype
  Tensor pre;  // [..., H]
  Tensor rows; // [...], optional
  Tensor dx;   // [..., I]
  Tensor dw1;  // [H, I]
  Tensor db1;  // [H]
  Tensor dw2;  // [O, H]
  Tensor db2;  // [O]
  Tensor dfill;      // [O], optional
  Tensor dresidual;  // [..., O], optional
  void* workspace = nullptr;  // of a block of rows, in x's dtype: h, then dz; dy when it has another one; each block's sums of dz [blocks, H] and dy [blocks, O], before them those of the other rows' dy [chunks, O]
  static auto spec() {
    return fields(in("dy", &MlpGrad::dy, kFloat), in("x", &MlpGrad::x, kFloat), in("w1", &MlpGrad::w1, kFloat), in("w2", &MlpGrad::w2, kFloat),
                  in("pre", &MlpGrad::pre, kFloat), optional_in("rows", &MlpGrad::rows, kF32), out("dx", &MlpGrad::dx, kFloat), out("dw1", &MlpGrad::dw1, kF32), out("db1", &MlpGrad::db1, kF32),
                  out("dw2", &MlpGrad::dw2, kF32), out("db2", &MlpGrad::db2, kF32), optional_out("dfill", &MlpGrad::dfill, kF32), optional_out("dresidual", &MlpGrad::dresidual, kFloat));
  }
  SIMMIM_INLINE int64_t row_count() const { return x.shape.span(0, x.shape.rank - 1); }
  SIMMIM_INLINE MlpBlocks largest_block() const { return rows.present() ? largest_mlp_block(row_count()) : mlp_blocks(row_count()); }
  SIMMIM_INLINE size_t hidden_bytes() const { return mlp_hidden_bytes(largest_block(), w1.dim(0), x.dtype); }
  SIMMIM_INLINE size_t dy_bytes() const { return dy.dtype == x.dtype ? 0 : mlp_hidden_bytes(largest_block(), w2.dim(0), x.dtype); }
  SIMMIM_INLINE size_t sums_bytes() const {
    const int64_t sums = mlp_blocks(row_count()).count * (w1.dim(0) + w2.dim(0)), others = dfill.present() ? row_chunks(row_count()) * w2.dim(0) : 0;
    return whole_lines(static_cast<size_t>(sums > others ? sums : others) * 4);
  }
  /// With rows then their dy, x and dx, and int32 [R] their places.
  size_t workspace_bytes() const {
    return hidden_bytes() + dy_bytes() + sums_bytes() + (rows.present() ? whole_lines(dy.bytes()) + 2 * whole_lines(x.bytes()) + static_cast<size_t>(rows.count()) * 4 : 0);
  }
  /// On a GPU: h, then dz of a block of rows, dy of one where it is not stored as x, then sums of each kRowChunk rows of dz [.., H], afterwards of dy [.., O];
  /// with rows then dy as it counts.
  SIMMIM_INLINE MlpBlocks cuda_blocks() const { return cuda_mlp_blocks(row_count(), w1.dim(0), x.dtype); }
  SIMMIM_INLINE size_t cuda_hidden_bytes() const { return mlp_hidden_bytes(cuda_blocks(), w1.dim(0), x.dtype); }
  SIMMIM_INLINE size_t cuda_dy_bytes() const { return dy.dtype == x.dtype ? 0 : mlp_hidden_bytes(cuda_blocks(), w2.dim(0), x.dtype); }
  SIMMIM_INLINE size_t cuda_sums_bytes() const {
    const int64_t chunks = row_chunks(cuda_blocks().size) * cuda_blocks().count, all = row_chunks(row_count());
    const int64_t sums = chunks * w1.dim(0), sums2 = all * w2.dim(0);
    return whole_lines(static_cast<size_t>(sums > sums2 ? sums : sums2) * 4);
  }
  size_t cuda_workspace_bytes() const { return cuda_hidden_bytes() + cuda_dy_bytes() + cuda_sums_bytes() + (rows.present() ? dy.bytes() : 0); }
  void check() const {
    check_mlp_weights(x, w1, w2);
    check_linear_output("dy", dy, x, w2.dim(0));
    check_linear_output("pre", pre, x, w1.dim(0));
    if (rows.present()) check_linear_rows(rows, "x", x);
    require(rows.present() || (!dfill.present() && !dresidual.present()), "%s is wanted without rows", dfill.present() ? "dfill" : "dresidual");
    if (dfill.present()) check_mlp_bias("dfill", dfill, w2.dim(0), "w2");
    if (dresidual.present()) require(dresidual.shape == dy.shape, "dresidual has another shape than dy");
    require(dx.shape == x.shape, "dx has another shape than x");
    require(dw1.shape == w1.shape, "dw1 has another shape than w1");
    require(dw2.shape == w2.shape, "dw2 has another shape than w2");
    check_mlp_bias("db1", db1, w1.dim(0), "w1");
    check_mlp_bias("db2", db2, w2.dim(0), "w2");
  }
};

}  // namespace simmim
