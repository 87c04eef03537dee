#include "mlp.h"

#include "../cuda/gemm.h"
#include "../cuda/picked_rows.cuh"

namespace simmim::cuda {

namespace {

/// Rows from `row` on of a matrix with `channels` columns.
Side rows_from(const Tensor& t, int64_t row, int64_t channels) {
  return {t.data ? static_cast<char*>(t.data) + row * channels * static_cast<int64_t>(size_of(t.dtype)) : nullptr, t.dtype};
}

/// dw (+)= da^T b over the rows of one block.
void weight_grad(int64_t rows, const Side& da, int64_t outputs, const Side& b, int64_t inputs, const Tensor& dw, bool add, Stream& stream) {
  Gemm g;
  g.m = outputs, g.n = inputs, g.k = rows;
  g.operands = da.dtype;
  g.a = da.data, g.lda = outputs, g.transpose_a = true;
  g.b = b.data, g.ldb = inputs;
  g.c = dw.data, g.ldc = inputs;
  g.accumulate = add;
  gemm(g, stream);
}

/// d = da w over the rows of one block.
void input_grad(int64_t rows, const Side& da, const Tensor& w, const Side& d, Stream& stream) {
  Gemm g;
  g.m = rows, g.n = w.dim(1), g.k = w.dim(0);
  g.operands = da.dtype;
  g.a = da.data, g.lda = g.k;
  g.b = w.data, g.ldb = g.n;
  g.c = d.data, g.ldc = g.n, g.result = d.dtype;
  gemm(g, stream);
}

}  // namespace

void run(const Mlp& k, Stream& stream) {
  const int64_t rows = k.row_count(), inputs = k.w1.dim(1), hidden = k.w1.dim(0), outputs = k.w2.dim(0);
  const MlpBlocks blocks = cuda_mlp_blocks(rows, hidden, k.x.dtype);
  for (int64_t row = 0; row < rows; row += blocks.size) {
    Gemm first;
    first.m = rows - row < blocks.size ? rows - row : blocks.size, first.n = hidden, first.k = inputs;
    first.operands = k.x.dtype;
    first.a = rows_from(k.x, row, inputs).data, first.lda = inputs;
    first.b = k.w1.data, first.ldb = inputs, first.transpose_b = true;
    first.c = k.workspace, first.ldc = hidden, first.result = k.x.dtype;
    first.bias = k.b1.f32();
    first.pre = rows_from(k.pre, row, hidden);
    first.gelu = true;
    gemm(first, stream);
    Gemm second;
    second.m = first.m, second.n = outputs, second.k = hidden;
    second.operands = k.x.dtype;
    second.a = k.workspace, second.lda = hidden;
    second.b = k.w2.data, second.ldb = hidden, second.transpose_b = true;
    second.c = rows_from(k.y, row, outputs).data, second.ldc = outputs, second.result = k.y.dtype;
    second.bias = k.b2.f32();
    if (!k.rows.present()) second.residual = rows_from(k.residual, row, outputs);
    gemm(second, stream);
  }
  if (k.rows.present()) for_each(stream, k.y.count(), FinishRows{k.rows.f32(), outputs, side_of(k.residual), k.fill.f32(), side_of(k.y)});
}

void run(const MlpGrad& k, Stream& stream) {
  const int64_t rows = k.row_count(), inputs = k.w1.dim(1), hidden = k.w1.dim(0), outputs = k.w2.dim(0);
  const MlpBlocks blocks = k.cuda_blocks();
  char* const workspace = static_cast<char*>(k.workspace);
  const Side h{workspace, k.x.dtype}, narrow{k.cuda_dy_bytes() > 0 ? workspace + k.cuda_hidden_bytes() : nullptr, k.x.dtype};
  float* const partials = reinterpret_cast<float*>(workspace + k.cuda_hidden_bytes() + k.cuda_dy_bytes());
  Tensor counted = k.dy;
  if (k.rows.present()) {
    counted.data = reinterpret_cast<char*>(partials) + k.cuda_sums_bytes();
    const auto pick = [&](const Side& to, Picked picked) { for_each(stream, k.dy.count(), PickRows{k.rows.f32(), outputs, side_of(k.dy), to, picked}); };
    if (k.dfill.present()) {
      pick(side_of(counted), Picked::others);
      activation_and_row_sums(rows, outputs, side_of(counted), {}, {}, partials, stream);
      combine_row_sums(partials, row_chunks(rows), outputs, k.dfill.f32(), false, stream);
    }
    if (k.dresidual.present()) pick(side_of(k.dresidual), Picked::as_they_are);
    pick(side_of(counted), Picked::times_factor);
  }
  int64_t row = 0, chunks = 0;
  do {  // once even without rows: the weights' gradients must still be written
    const int64_t m = rows - row < blocks.size ? rows - row : blocks.size;
    const Side given = rows_from(counted, row, outputs), pre = rows_from(k.pre, row, hidden);
    if (narrow.data) activation_and_row_sums(m, outputs, given, {}, narrow, nullptr, stream);
    const Side dy = narrow.data ? narrow : given;
    gelu_all(pre, h, m * hidden, stream);
    weight_grad(m, dy, outputs, h, hidden, k.dw2, row > 0, stream);
    input_grad(m, dy, k.w2, h, stream);
    activation_and_row_sums(m, hidden, h, pre, h, partials + chunks * hidden, stream);
    weight_grad(m, h, hidden, rows_from(k.x, row, inputs), inputs, k.dw1, row > 0, stream);
    input_grad(m, h, k.w1, rows_from(k.dx, row, inputs), stream);
    chunks += row_chunks(m);
    row += m;
  } while (row < rows);
  combine_row_sums(partials, chunks, hidden, k.db1.f32(), false, stream);
  activation_and_row_sums(rows, outputs, side_of(counted), {}, {}, partials, stream);
  combine_row_sums(partials, row_chunks(rows), outputs, k.db2.f32(), false, stream);
}

}  // namespace simmim::cuda
