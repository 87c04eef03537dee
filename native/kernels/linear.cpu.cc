#include "linear.h"

#include "../cpu/gemm.h"
#include "../cpu/linear_gradients.h"

namespace simmim::SIMMIM_ISA {

void run(const Linear& k) {
  Gemm g;
  g.m = k.x.shape.span(0, k.x.shape.rank - 1);
  g.n = k.weight.dim(0);
  g.k = k.weight.dim(1);
  g.operands = k.x.dtype;
  g.a = k.x.data, g.lda = g.k;
  g.b = k.weight.data, g.ldb = g.k, g.transpose_b = true;
  g.c = k.y.data, g.ldc = g.n, g.result = k.y.dtype;
  g.bias = k.bias.f32();
  g.gelu = k.activation == static_cast<int32_t>(Activation::gelu);
  g.pre = {k.pre.data, k.pre.dtype};
  g.residual = {k.residual.data, k.residual.dtype};
  gemm(g);
}

void run(const LinearGrad& k) {
  const int64_t rows = k.rows(), outputs = k.outputs();
  const bool wants_weight = k.dweight.present() || k.dweight_sum.present();
  float* const partials = k.wants_bias() ? reinterpret_cast<float*>(static_cast<char*>(k.workspace) + k.dz_bytes()) : nullptr;
  // The product for dweight reads all of dz anyway and sums it on the way, unless a pass over dz is due before.
  const bool sums_in_product = partials && wants_weight && !k.makes_dz() && rows > 0 && k.x.dim(-1) > 0;
  const Side dy{k.dy.data, k.dy.dtype}, dz = k.makes_dz() ? Side{k.workspace, k.operands()} : dy;
  if (k.makes_dz() || (partials && !sums_in_product))
    activation_and_bias_grad(rows, outputs, kRowChunk, dy, {k.pre.data, k.pre.dtype}, k.makes_dz() ? dz : Side{}, partials);

  Gemm g;
  g.operands = k.operands();
  g.a = dz.data;
  g.lda = outputs;
  if (k.dx.present()) {
    g.m = rows, g.n = k.weight.dim(1), g.k = outputs;
    g.b = k.weight.data, g.ldb = g.n;
    g.c = k.dx.data, g.ldc = g.n, g.result = k.dx.dtype;
    g.gelu_of = {k.x_pre.data, k.x_pre.dtype};
    gemm(g);
  }
  g.m = outputs, g.k = rows;
  g.transpose_a = true;
  g.b = k.x.data;
  g.result = DType::f32, g.gelu_of = {};
  g.row_sums = sums_in_product ? partials : nullptr;
  for (const Tensor* out : {&k.dweight, &k.dweight_sum}) {
    if (!out->present()) continue;
    g.n = k.x.dim(-1), g.ldb = g.n, g.ldc = g.n;
    g.c = out->data;
    g.accumulate = out == &k.dweight_sum;
    gemm(g);
  }
  const int64_t parts = sums_in_product ? 1 : k.chunks();
  if (k.dbias.present()) combine_column_sums(partials, parts, outputs, k.dbias.f32(), false);
  if (k.dbias_sum.present()) combine_column_sums(partials, parts, outputs, k.dbias_sum.f32(), true);
}

}  // namespace simmim::SIMMIM_ISA
