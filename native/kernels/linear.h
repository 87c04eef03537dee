// y = act(x W^T + b) + residual, the dense layer (PyTorch's nn.Linear; exact GELU), and its gradient.
//   x [..., I], W [O, I], b [O], residual and y [..., O]; R = rows = product of x's leading dimensions.
// Parallel over blocks of rows and columns (cpu/gemm.h). For the gradient of GELU the forward pass can write the
// pre-activation `pre` = x W^T + b. 2 R I O flops forward, twice that for the gradient; every operand is read once
// from memory, y (and pre) written once: bias, GELU and residual cost no traffic of their own.
//
// With `rows` row i is residual + rows[i] (x W^T + b). Where rows[i] is 0 there is no product: the result is known, or nobody asks for it
// (tokens that are all alike, samples whose branch is dropped, visible tokens at the end of pre-training), and is `fill`, else the residual.
// On the CPU rows are brought together in front of the products, 4 R (I + O) bytes of traffic and of workspace at most; on a GPU, where their
// number would have to be waited for, all are multiplied and the others overwritten.
#pragma once
#include "../core/gemm.h"
#include "../core/spec.h"

namespace simmim {

enum class Activation : int32_t { none = 0, gelu = 1 };

/// [...] must be x's leading dimensions.
inline void check_linear_rows(const Tensor& rows, const char* name, const Tensor& x) {
  require(rows.shape.rank == x.shape.rank - 1, "rows has rank %d, expected %d = the leading dimensions of %s", rows.shape.rank, x.shape.rank - 1, name);
  for (int i = 0; i < rows.shape.rank; i++)
    require(rows.dim(i) == x.dim(i), "rows has dimension %d of %lld, expected %lld as %s", i, (long long)rows.dim(i), (long long)x.dim(i), name);
}

SIMMIM_INLINE size_t whole_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

/// [..., O] must match x's [..., I] in all leading dimensions.
inline void check_linear_output(const char* name, const Tensor& y, const Tensor& x, int64_t outputs) {
  require(y.shape.rank == x.shape.rank, "%s has rank %d, expected %d as x", name, y.shape.rank, x.shape.rank);
  for (int i = 0; i + 1 < x.shape.rank; i++)
    require(y.dim(i) == x.dim(i), "%s has dimension %d of %lld, expected %lld as x", name, i, (long long)y.dim(i), (long long)x.dim(i));
  require(y.dim(-1) == outputs, "%s has %lld channels, expected %lld = rows of weight", name, (long long)y.dim(-1), (long long)outputs);
}

struct Linear {
  static constexpr const char* name = "linear";
  Tensor x;         // [..., I]
  Tensor weight;    // [O, I], x's dtype
  Tensor bias;      // [O], optional
  Tensor residual;  // [..., O], optional
  Tensor rows;      // [...], optional: factors of the rows; where it is 0, x is finite and does not matter. Not with an activation
  Tensor fill;      // [O], optional beside rows: y where they are 0; otherwise the residual, or zeros
  Tensor y;         // [..., O]
  Tensor pre;       // [..., O], optional
  int32_t activation;
  void* workspace = nullptr;  // with rows: their x [R, I] and y [R, O], then int32 [R] their places among these
  static auto spec() {
    return fields(in("x", &Linear::x, kFloat), in("weight", &Linear::weight, kFloat), optional_in("bias", &Linear::bias, kF32),
                  optional_in("residual", &Linear::residual, kFloat), optional_in("rows", &Linear::rows, kF32), optional_in("fill", &Linear::fill, kF32), out("y", &Linear::y, kFloat),
                  optional_out("pre", &Linear::pre, kFloat), par("activation", &Linear::activation));
  }
  size_t workspace_bytes() const { return rows.present() ? whole_lines(x.bytes()) + whole_lines(y.bytes()) + static_cast<size_t>(rows.count()) * 4 : 0; }
  size_t cuda_workspace_bytes() const { return 0; }
  void check() const {
    require(x.shape.rank >= 1, "x is a scalar, expected [..., I]");
    require(weight.shape.rank == 2, "weight has rank %d, expected 2 = [O, I]", weight.shape.rank);
    require(weight.dim(1) == x.dim(-1), "weight has %lld inputs, expected %lld = channels of x", (long long)weight.dim(1), (long long)x.dim(-1));
    require(weight.dtype == x.dtype, "weight is %s, expected %s as x", name_of(weight.dtype), name_of(x.dtype));
    const int64_t outputs = weight.dim(0);
    if (bias.present()) require(bias.shape.rank == 1 && bias.dim(0) == outputs, "bias has %lld values, expected %lld = rows of weight", (long long)bias.count(), (long long)outputs);
    if (residual.present()) check_linear_output("residual", residual, x, outputs);
    check_linear_output("y", y, x, outputs);
    if (pre.present()) check_linear_output("pre", pre, x, outputs);
    require(activation == 0 || activation == 1, "activation is %d, expected 0 (none) or 1 (gelu)", activation);
    if (rows.present()) {
      check_linear_rows(rows, "x", x);
      require(activation == 0 && !pre.present(), "rows is given beside %s, which is not supported", pre.present() ? "pre" : "activation");
    }
    require(!fill.present() || rows.present(), "fill is given without rows");
    if (fill.present()) require(fill.shape.rank == 1 && fill.dim(0) == outputs, "fill has %lld values, expected %lld = rows of weight", (long long)fill.count(), (long long)outputs);
  }
};

/// dz = dy, or dy * GELU'(pre), in the dtype of x and weight (a residual stream in f32 hands an f32 dy to bf16 products); dx = dz W (times GELU'(x_pre) when x = GELU(x_pre), which is then the gradient before
/// that GELU); dweight = dz^T x; dbias = sum of dz over rows. Each output is optional. dweight and dbias are overwritten,
/// dweight_sum and dbias_sum are added to. With `rows`, dz = rows[i] dy, and dfill is the sum of dy where rows[i] is 0. The gradient of
/// `residual` is dy itself, except beside `fill`: then dresidual is dy with zeros where rows[i] is 0.
struct LinearGrad {
  static constexpr const char* name = "linear_grad";
  Tensor dy;      // [..., O]
  Tensor x;       // [..., I]; needed for dweight
  Tensor weight;  // [O, I], x's dtype; needed for dx
  Tensor pre;     // [..., O]: present when the forward pass applied GELU
  Tensor x_pre;   // [..., I]
  Tensor rows;    // [...], optional; not with pre or x_pre
  Tensor dx;      // [..., I]
  Tensor dweight, dweight_sum;  // [O, I]
  Tensor dbias, dbias_sum;      // [O]
  Tensor dfill;                 // [O]
  Tensor dresidual;             // [..., O]
  void* workspace = nullptr;    // dz [R, O] when it is not dy itself, then row sums of dz [chunks, O] for the bias; with rows their x and dx [R, I], int32 [R]
  static auto spec() {
    return fields(in("dy", &LinearGrad::dy, kFloat), optional_in("x", &LinearGrad::x, kFloat), optional_in("weight", &LinearGrad::weight, kFloat),
                  optional_in("pre", &LinearGrad::pre, kFloat), optional_in("x_pre", &LinearGrad::x_pre, kFloat), optional_in("rows", &LinearGrad::rows, kF32),
                  optional_out("dx", &LinearGrad::dx, kFloat), optional_out("dweight", &LinearGrad::dweight, kF32),
                  optional_inout("dweight_sum", &LinearGrad::dweight_sum, kF32), optional_out("dbias", &LinearGrad::dbias, kF32),
                  optional_inout("dbias_sum", &LinearGrad::dbias_sum, kF32), optional_out("dfill", &LinearGrad::dfill, kF32), optional_out("dresidual", &LinearGrad::dresidual, kFloat));
  }
  SIMMIM_INLINE int64_t outputs() const { return dy.dim(-1); }
  SIMMIM_INLINE int64_t row_count() const { return dy.shape.span(0, dy.shape.rank - 1); }

  SIMMIM_INLINE int64_t chunks() const { return row_chunks(row_count()); }
  SIMMIM_INLINE bool wants_bias() const { return dbias.present() || dbias_sum.present(); }
  /// What the products multiply.
  SIMMIM_INLINE DType operands() const { return x.present() ? x.dtype : weight.present() ? weight.dtype : dy.dtype; }
  SIMMIM_INLINE bool makes_dz() const { return pre.present() || rows.present() || dy.dtype != operands(); }
  SIMMIM_INLINE size_t dz_bytes() const { return makes_dz() ? whole_lines(static_cast<size_t>(dy.count()) * size_of(operands())) : 0; }
  SIMMIM_INLINE size_t partials_bytes() const { return wants_bias() || dfill.present() ? whole_lines(static_cast<size_t>(chunks() * outputs()) * 4) : 0; }
  SIMMIM_INLINE size_t cuda_workspace_bytes() const { return dz_bytes() + partials_bytes(); }
  SIMMIM_INLINE size_t workspace_bytes() const { return cuda_workspace_bytes() + (rows.present() ? whole_lines(x.bytes()) + whole_lines(dx.bytes()) + static_cast<size_t>(rows.count()) * 4 : 0); }

  void check_inputs(const char* name, const Tensor& t, int64_t inputs) const {
    require(t.shape.rank == dy.shape.rank, "%s has rank %d, expected %d as dy", name, t.shape.rank, dy.shape.rank);
    for (int i = 0; i + 1 < dy.shape.rank; i++)
      require(t.dim(i) == dy.dim(i), "%s has dimension %d of %lld, expected %lld as dy", name, i, (long long)t.dim(i), (long long)dy.dim(i));
    require(t.dim(-1) == inputs, "%s has %lld channels, expected %lld", name, (long long)t.dim(-1), (long long)inputs);
  }
  void check_weight(const char* name, const Tensor& t, int64_t inputs) const {
    require(t.shape.rank == 2 && t.dim(0) == outputs() && t.dim(1) == inputs, "%s has shape [%lld, %lld] of rank %d, expected [O, I] = [%lld, %lld]", name,
            (long long)t.dim(0), (long long)(t.shape.rank > 1 ? t.dim(1) : 0), t.shape.rank, (long long)outputs(), (long long)inputs);
  }
  void check_bias(const char* name, const Tensor& t) const {
    require(t.shape.rank == 1 && t.dim(0) == outputs(), "%s has %lld values, expected %lld = channels of dy", name, (long long)t.count(), (long long)outputs());
  }
  void check() const {
    require(dy.shape.rank >= 1, "dy is a scalar, expected [..., O]");
    if (pre.present()) require(pre.shape == dy.shape, "pre has another shape than dy");
    if (rows.present()) {
      check_linear_rows(rows, "dy", dy);
      require(!pre.present() && !x_pre.present(), "rows is given beside %s, which is not supported", pre.present() ? "pre" : "x_pre");
    }
    require(!dfill.present() || rows.present(), "dfill is wanted without rows");
    if (dfill.present()) check_bias("dfill", dfill);
    require(!dresidual.present() || rows.present(), "dresidual is wanted without rows: it is dy");
    if (dresidual.present()) require(dresidual.shape == dy.shape, "dresidual has another shape than dy");
    const bool wants_weight = dweight.present() || dweight_sum.present();
    require(!wants_weight || x.present(), "x is missing, it is needed for dweight");
    require(!dx.present() || weight.present(), "weight is missing, it is needed for dx");
    if (x.present()) require(x.shape.rank >= 1, "x is a scalar, expected [..., I]");
    if (weight.present()) require(weight.shape.rank == 2, "weight has rank %d, expected 2 = [O, I]", weight.shape.rank);
    const int64_t inputs = x.present() ? x.dim(-1) : weight.present() ? weight.dim(1) : 0;
    if (x.present()) check_inputs("x", x, inputs);
    if (weight.present()) check_weight("weight", weight, inputs);
    require(!weight.present() || weight.dtype == operands(), "weight is %s, expected %s as x", name_of(weight.dtype), name_of(operands()));
    if (x_pre.present()) check_inputs("x_pre", x_pre, inputs);
    if (dx.present()) check_inputs("dx", dx, inputs);
    if (dweight.present()) check_weight("dweight", dweight, inputs);
    if (dweight_sum.present()) check_weight("dweight_sum", dweight_sum, inputs);
    if (dbias.present()) check_bias("dbias", dbias);
    if (dbias_sum.present()) check_bias("dbias_sum", dbias_sum);
  }
};

}  // namespace simmim
