#include "linear.h"

#include "../cpu/gemm.h"
#include "../cpu/linear_gradients.h"
#include "../cpu/picked_rows.h"

namespace simmim::SIMMIM_ISA {

/// y = the finished product of `rows` rows of x, plus `residual`.
static void multiply(const Linear& k, int64_t rows, const void* x, const Side& residual, void* y) {
  Gemm g;
  g.m = rows;
  g.n = k.weight.dim(0);
  g.k = k.weight.dim(1);
  g.operands = k.x.dtype;
  g.a = x, g.lda = g.k;
  g.b = k.weight.data, g.ldb = g.k, g.transpose_b = true;
  g.c = y, g.ldc = g.n, g.result = k.y.dtype;
  g.bias = k.bias.f32();
  g.gelu = k.activation == static_cast<int32_t>(Activation::gelu);
  g.pre = {k.pre.data, k.pre.dtype};
  g.residual = residual;
  gemm(g);
}

void run(const Linear& k) {
  const int64_t rows = k.x.shape.span(0, k.x.shape.rank - 1);
  const Side residual{k.residual.data, k.residual.dtype};
  if (!k.rows.present()) return multiply(k, rows, k.x.data, residual, k.y.data);
  char* const x = static_cast<char*>(k.workspace);
  char* const y = x + whole_lines(k.x.bytes());
  int32_t* const places = reinterpret_cast<int32_t*>(y + whole_lines(k.y.bytes()));
  const int64_t picked = pick_rows(k.rows, places);
  if (picked < rows) collect_rows(places, rows, k.weight.dim(1), {k.x.data, k.x.dtype}, {x, k.x.dtype});
  multiply(k, picked, picked < rows ? x : k.x.data, {}, y);
  finish_rows(places, k.rows.f32(), rows, k.weight.dim(0), {y, k.y.dtype}, residual, k.fill.f32(), {k.y.data, k.y.dtype});
}

/// The gradients of `rows` rows: from dz, x and, for the bias, `partials`, the sums of dz's chunks, or room for what one product sums.
static void multiply(const LinearGrad& k, int64_t rows, const void* dz, const void* x, void* dx, float* partials, bool sums_in_product) {
  const int64_t outputs = k.outputs();
  Gemm g;
  g.operands = k.operands();
  g.a = dz;
  g.lda = outputs;
  if (k.dx.present()) {
    g.m = rows, g.n = k.weight.dim(1), g.k = outputs;
    g.b = k.weight.data, g.ldb = g.n;
    g.c = dx, g.ldc = g.n, g.result = k.dx.dtype;
    g.gelu_of = {k.x_pre.data, k.x_pre.dtype};
    gemm(g);
  }
  g.m = outputs, g.k = rows;
  g.transpose_a = true;
  g.b = x;
  g.result = DType::f32, g.gelu_of = {};
  g.row_sums = sums_in_product ? partials : nullptr;
  for (const Tensor* out : {&k.dweight, &k.dweight_sum}) {
    if (!out->present()) continue;
    g.n = k.x.dim(-1), g.ldb = g.n, g.ldc = g.n;
    g.c = out->data;
    g.accumulate = out == &k.dweight_sum;
    gemm(g);
  }
  const int64_t parts = sums_in_product ? 1 : row_chunks(rows);
  if (k.dbias.present()) combine_column_sums(partials, parts, outputs, k.dbias.f32(), false);
  if (k.dbias_sum.present()) combine_column_sums(partials, parts, outputs, k.dbias_sum.f32(), true);
}

void run(const LinearGrad& k) {
  const int64_t rows = k.row_count(), outputs = k.outputs();
  const bool wants_weight = k.dweight.present() || k.dweight_sum.present();
  char* const behind_dz = static_cast<char*>(k.workspace) + k.dz_bytes();
  float* const partials = k.partials_bytes() ? reinterpret_cast<float*>(behind_dz) : nullptr;
  const Side dy{k.dy.data, k.dy.dtype}, dz = k.makes_dz() ? Side{k.workspace, k.operands()} : dy;
  if (!k.rows.present()) {
    // The product for dweight reads all of dz anyway and sums it on the way, unless a pass over dz is due before.
    const bool sums_in_product = partials && wants_weight && !k.makes_dz() && rows > 0 && k.x.dim(-1) > 0;
    if (k.makes_dz() || (partials && !sums_in_product))
      activation_and_bias_grad(rows, outputs, kRowChunk, dy, {k.pre.data, k.pre.dtype}, k.makes_dz() ? dz : Side{}, partials);
    return multiply(k, rows, dz.data, k.x.data, k.dx.data, partials, sums_in_product);
  }
  char* const x = behind_dz + k.partials_bytes();
  char* const dx = x + whole_lines(k.x.bytes());
  int32_t* const places = reinterpret_cast<int32_t*>(dx + whole_lines(k.dx.bytes()));
  const int64_t picked = pick_rows(k.rows, places);
  if (k.dfill.present()) {
    sum_other_rows(places, rows, outputs, kRowChunk, dy, partials);
    combine_column_sums(partials, k.chunks(), outputs, k.dfill.f32(), false);
  }
  if (k.dresidual.present()) keep_rows(places, rows, outputs, dy, {k.dresidual.data, k.dresidual.dtype});
  collect_rows(places, rows, outputs, dy, dz, k.rows.f32());
  const bool some = picked < rows;
  if (k.x.present() && some) collect_rows(places, rows, k.x.dim(-1), {k.x.data, k.x.dtype}, {x, k.x.dtype});
  const bool sums_in_product = k.wants_bias() && wants_weight && picked > 0 && k.x.dim(-1) > 0;
  if (k.wants_bias() && !sums_in_product) activation_and_bias_grad(picked, outputs, kRowChunk, dz, {}, {}, partials);
  multiply(k, picked, dz.data, some ? x : k.x.data, some ? dx : k.dx.data, partials, sums_in_product);
  if (k.dx.present() && some) spread_rows(places, rows, k.dx.dim(-1), {dx, k.dx.dtype}, {k.dx.data, k.dx.dtype});
}

}  // namespace simmim::SIMMIM_ISA
