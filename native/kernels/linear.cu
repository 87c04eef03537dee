#include "linear.h"

#include "../cuda/gemm.h"
#include "../cuda/picked_rows.cuh"

namespace simmim::cuda {

void run(const Linear& k, Stream& stream) {
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
  if (!k.rows.present()) g.residual = side_of(k.residual);
  gemm(g, stream);
  if (k.rows.present()) for_each(stream, k.y.count(), FinishRows{k.rows.f32(), g.n, side_of(k.residual), k.fill.f32(), side_of(k.y)});
}

/// dfill and dresidual, then dz and into `partials` the sums of its rows, where only some rows count.
static void pick_rows(const LinearGrad& k, const Side& dy, const Side& dz, float* partials, Stream& stream) {
  const int64_t rows = k.row_count(), outputs = k.outputs();
  const auto sums_of = [&](Picked picked, bool wanted) {
    for_each(stream, k.dy.count(), PickRows{k.rows.f32(), outputs, dy, dz, picked});
    if (wanted) activation_and_row_sums(rows, outputs, dz, {}, {}, partials, stream);
  };
  if (k.dfill.present()) {
    sums_of(Picked::others, true);
    combine_row_sums(partials, row_chunks(rows), outputs, k.dfill.f32(), false, stream);
  }
  if (k.dresidual.present()) for_each(stream, k.dy.count(), PickRows{k.rows.f32(), outputs, dy, side_of(k.dresidual), Picked::as_they_are});
  sums_of(Picked::times_factor, k.wants_bias());
}

void run(const LinearGrad& k, Stream& stream) {
  const int64_t rows = k.row_count(), outputs = k.outputs();
  float* const partials = k.partials_bytes() ? reinterpret_cast<float*>(static_cast<char*>(k.workspace) + k.dz_bytes()) : nullptr;
  const Side dy{k.dy.data, k.dy.dtype}, pre{k.pre.data, k.pre.dtype};
  const Side dz = k.makes_dz() ? Side{k.workspace, k.operands()} : dy;
  if (k.rows.present()) pick_rows(k, dy, dz, partials, stream);
  else if (k.makes_dz() || partials) activation_and_row_sums(rows, outputs, dy, pre, k.makes_dz() ? dz : Side{}, partials, stream);

  Gemm g;
  g.operands = k.operands();
  g.a = dz.data, g.lda = outputs;
  if (k.dx.present()) {
    g.m = rows, g.n = k.weight.dim(1), g.k = outputs;
    g.b = k.weight.data, g.ldb = g.n;
    g.c = k.dx.data, g.ldc = g.n, g.result = k.dx.dtype;
    g.gelu_of = {k.x_pre.data, k.x_pre.dtype};
    gemm(g, stream);
  }
  g.m = outputs, g.k = rows;
  g.transpose_a = true;
  g.b = k.x.data;
  g.result = DType::f32, g.gelu_of = {};
  for (const Tensor* out : {&k.dweight, &k.dweight_sum}) {
    if (!out->present()) continue;
    g.n = k.x.dim(-1), g.ldb = g.n, g.ldc = g.n;
    g.c = out->data;
    g.accumulate = out == &k.dweight_sum;
    gemm(g, stream);
  }
  if (k.dbias.present()) combine_row_sums(partials, row_chunks(rows), outputs, k.dbias.f32(), false, stream);
  if (k.dbias_sum.present()) combine_row_sums(partials, row_chunks(rows), outputs, k.dbias_sum.f32(), true, stream);
}

}  // namespace simmim::cuda
