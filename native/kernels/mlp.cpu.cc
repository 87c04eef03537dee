#include "mlp.h"

#include "../cpu/gemm.h"
#include "../cpu/linear_gradients.h"
#include "../cpu/picked_rows.h"

namespace simmim::SIMMIM_ISA {

/// Rows from `row` on of a matrix with `channels` columns.
static SIMMIM_INLINE void* rows_from(const Tensor& t, int64_t row, int64_t channels) {
  return t.data ? static_cast<char*>(t.data) + row * channels * static_cast<int64_t>(size_of(t.dtype)) : nullptr;
}

/// The rows [R, I] of k.x, all of which count.
static void multiply(const Mlp& k) {
  const int64_t rows = k.row_count(), inputs = k.w1.dim(1), hidden = k.w1.dim(0), outputs = k.w2.dim(0);
  const MlpBlocks blocks = mlp_blocks(rows);
  for (int64_t row = 0; row < rows; row += blocks.size) {
    Gemm first;
    first.m = rows - row < blocks.size ? rows - row : blocks.size, first.n = hidden, first.k = inputs;
    first.operands = k.x.dtype;
    first.a = rows_from(k.x, row, inputs), first.lda = inputs;
    first.b = k.w1.data, first.ldb = inputs, first.transpose_b = true;
    first.c = k.workspace, first.ldc = hidden, first.result = k.x.dtype;
    first.bias = k.b1.f32();
    first.pre = {rows_from(k.pre, row, hidden), k.pre.dtype};
    first.gelu = true;
    gemm(first);
    Gemm second;
    second.m = first.m, second.n = outputs, second.k = hidden;
    second.operands = k.x.dtype;
    second.a = k.workspace, second.lda = hidden;
    second.b = k.w2.data, second.ldb = hidden, second.transpose_b = true;
    second.c = rows_from(k.y, row, outputs), second.ldc = outputs, second.result = k.y.dtype;
    second.bias = k.b2.f32();
    second.residual = {rows_from(k.residual, row, outputs), k.residual.dtype};
    gemm(second);
  }
}

/// A matrix [rows, channels] at `data`, stored as t is; absent where t is.
static SIMMIM_INLINE Tensor matrix(const Tensor& t, void* data, int64_t rows, int64_t channels) {
  if (!t.present()) return t;
  Tensor m = t;
  m.data = data;
  m.shape.rank = 2, m.shape.dims[0] = rows, m.shape.dims[1] = channels;
  return m;
}

void run(const Mlp& k) {
  if (!k.rows.present()) return multiply(k);
  const int64_t rows = k.row_count(), inputs = k.w1.dim(1), hidden = k.w1.dim(0), outputs = k.w2.dim(0);
  char* const x = static_cast<char*>(k.workspace) + k.hidden_bytes();
  char* const y = x + whole_lines(k.x.bytes());
  int32_t* const places = reinterpret_cast<int32_t*>(y + whole_lines(k.y.bytes()));
  const int64_t picked = pick_rows(k.rows, places);
  Mlp some = k;
  some.x = matrix(k.x, picked < rows ? x : k.x.data, picked, inputs);
  some.residual = {};
  some.y = matrix(k.y, y, picked, outputs);
  some.pre = matrix(k.pre, k.pre.data, picked, hidden);
  if (picked < rows) collect_rows(places, rows, inputs, {k.x.data, k.x.dtype}, {x, k.x.dtype});
  multiply(some);
  finish_rows(places, k.rows.f32(), rows, outputs, {y, k.y.dtype}, {k.residual.data, k.residual.dtype}, k.fill.f32(), {k.y.data, k.y.dtype});
}

template <class P, class T>
static void gelu_all(const P* pre, T* hidden, int64_t count) {
  parallel_ranges(count, 16384, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + kGeluRegisters * kLanes <= end; i += kGeluRegisters * kLanes) {
      Vec x[kGeluRegisters];
      for (int r = 0; r < kGeluRegisters; r++) x[r] = load(pre + i + r * kLanes);
      gelu(x);
      for (int r = 0; r < kGeluRegisters; r++) store(hidden + i + r * kLanes, x[r]);
    }
    for_lanes(end - i, [&](int64_t j, int lanes) { store_lanes(hidden + i + j, gelu(load_lanes(pre + i + j, lanes)), lanes); });
  });
}
static void gelu_all(const Side& pre, const Side& hidden, int64_t count) {
  with_floats(pre, [&](const auto* from) { with_floats(hidden, [&](auto* to) { gelu_all(from, to, count); }); });
}

/// Over the rows of one block: dw (+)= da^T b, and the sums of da, on the way, into `sums` [outputs].
static void weight_grad(const MlpGrad& k, int64_t rows, const void* da, int64_t outputs, const void* b, int64_t inputs, const Tensor& dw, float* sums, bool add) {
  if (rows > 0 && inputs == 0) return activation_and_bias_grad(rows, outputs, rows, {const_cast<void*>(da), k.x.dtype}, {}, {}, sums);  // no product on whose way
  Gemm g;
  g.m = outputs, g.n = inputs, g.k = rows;
  g.operands = k.x.dtype;
  g.a = da, g.lda = outputs, g.transpose_a = true;
  g.b = b, g.ldb = inputs;
  g.c = dw.data, g.ldc = inputs;
  g.accumulate = add;
  g.row_sums = rows > 0 ? sums : nullptr;
  gemm(g);
}

/// d = da w over the rows of one block, times GELU'(pre) when given.
static void input_grad(const MlpGrad& k, int64_t rows, const void* da, const Tensor& w, void* d, DType dtype, Side pre) {
  Gemm g;
  g.m = rows, g.n = w.dim(1), g.k = w.dim(0);
  g.operands = k.x.dtype;
  g.a = da, g.lda = g.k;
  g.b = w.data, g.ldb = g.n;
  g.c = d, g.ldc = g.n, g.result = dtype;
  g.gelu_of = pre;
  gemm(g);
}

/// The gradients of rows all of which count.
static void multiply(const MlpGrad& k, float* partials1) {
  const int64_t rows = k.row_count(), inputs = k.w1.dim(1), hidden = k.w1.dim(0), outputs = k.w2.dim(0);
  char* const workspace = static_cast<char*>(k.workspace);
  const Side h{workspace, k.x.dtype}, converted{reinterpret_cast<char*>(partials1) - k.dy_bytes(), k.x.dtype};
  const MlpBlocks blocks = mlp_blocks(rows);
  float* const partials2 = partials1 + blocks.count * hidden;
  int64_t row = 0, block = 0;
  do {  // once even without rows: the weights' gradients must still be written
    const int64_t m = rows - row < blocks.size ? rows - row : blocks.size;
    const void* dy = rows_from(k.dy, row, outputs);
    if (k.dy_bytes()) {
      activation_and_bias_grad(m, outputs, kRowChunk, {const_cast<void*>(dy), k.dy.dtype}, {}, converted, nullptr);
      dy = converted.data;
    }
    const Side pre{rows_from(k.pre, row, hidden), k.pre.dtype};
    gelu_all(pre, h, m * hidden);
    weight_grad(k, m, dy, outputs, h.data, hidden, k.dw2, partials2 + block * outputs, block > 0);
    input_grad(k, m, dy, k.w2, h.data, h.dtype, pre);
    weight_grad(k, m, h.data, hidden, rows_from(k.x, row, inputs), inputs, k.dw1, partials1 + block * hidden, block > 0);
    input_grad(k, m, h.data, k.w1, rows_from(k.dx, row, inputs), k.dx.dtype, {});
    row += m, block++;
  } while (row < rows);
  combine_column_sums(partials1, blocks.count, hidden, k.db1.f32(), false);
  combine_column_sums(partials2, blocks.count, outputs, k.db2.f32(), false);
}

void run(const MlpGrad& k) {
  char* const behind = static_cast<char*>(k.workspace) + k.hidden_bytes() + k.dy_bytes();
  float* const partials = reinterpret_cast<float*>(behind);
  if (!k.rows.present()) return multiply(k, partials);
  const int64_t rows = k.row_count(), inputs = k.w1.dim(1), hidden = k.w1.dim(0), outputs = k.w2.dim(0);
  char* const dy = behind + k.sums_bytes();
  char* const x = dy + whole_lines(k.dy.bytes());
  char* const dx = x + whole_lines(k.x.bytes());
  int32_t* const places = reinterpret_cast<int32_t*>(dx + whole_lines(k.x.bytes()));
  const int64_t picked = pick_rows(k.rows, places);
  MlpGrad some = k;
  some.dy = matrix(k.dy, dy, picked, outputs);
  some.x = matrix(k.x, picked < rows ? x : k.x.data, picked, inputs);
  some.pre = matrix(k.pre, k.pre.data, picked, hidden);
  some.dx = matrix(k.dx, picked < rows ? dx : k.dx.data, picked, inputs);
  if (k.dfill.present()) {
    sum_other_rows(places, rows, outputs, kRowChunk, {k.dy.data, k.dy.dtype}, partials);
    combine_column_sums(partials, row_chunks(rows), outputs, k.dfill.f32(), false);
  }
  if (k.dresidual.present()) keep_rows(places, rows, outputs, {k.dy.data, k.dy.dtype}, {k.dresidual.data, k.dresidual.dtype});
  collect_rows(places, rows, outputs, {k.dy.data, k.dy.dtype}, {dy, k.dy.dtype}, k.rows.f32());
  if (picked < rows) collect_rows(places, rows, inputs, {k.x.data, k.x.dtype}, {x, k.x.dtype});
  multiply(some, partials);
  if (picked < rows) spread_rows(places, rows, inputs, {dx, k.dx.dtype}, {k.dx.data, k.dx.dtype});
}

}  // namespace simmim::SIMMIM_ISA
