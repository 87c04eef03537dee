// Attention inside (shifted) windows with relative position bias (Swin, Liu et al. 2021, section 3.2; with
// `scales` the cosine attention of Swin v2, section 3.2), and its gradient. Definition: ts/ops/window_attention.ts.
//   qkv [B, H, W, 3C] in the order q | k | v, then head, then d; table [(2wh-1)(2ww-1), heads]; y [B, H, W, C].
//   scores = scale q k^T, or scales[h] cos(q, k); + table + mask; y = softmax(scores) v.
// Cyclic shift, padding, partition and reverse are index arithmetic while a window's rows are gathered into
// first-level cache: no rolled or partitioned map exists in memory. Keys of another region of the shifted map get
// -100, keys in the padding get no weight, queries in the padding are dropped.
// Parallel over (group of windows, some heads). Nothing is saved: the gradient recomputes the probabilities.
// With N = wh ww: 4 B H W N C flops forward, 10 B H W N C for the gradient; qkv and y cross memory once per pass.
#pragma once
#include "attention.h"

namespace simmim {

/// Windows of a padded map, row by row, images outermost.
struct WindowGeometry {
  int64_t batch, height, width;    // of the map
  int64_t wh, ww, sh, sw;          // window and shift
  int64_t rows, columns;           // windows per image
  SIMMIM_INLINE int64_t tokens() const { return wh * ww; }
  SIMMIM_INLINE int64_t windows() const { return batch * rows * columns; }
  SIMMIM_INLINE int64_t entries() const { return (2 * wh - 1) * (2 * ww - 1); }
  /// Region of padded, rolled position i along an axis: what lies together in the map has one number.
  static SIMMIM_INLINE int32_t region_of(int64_t i, int64_t padded, int64_t window, int64_t shift) { return shift == 0 || i < padded - window ? 0 : i < padded - shift ? 1 : 2; }
  /// Work is cut into groups of windows for each head, about 64 pieces in all.
  SIMMIM_INLINE int64_t groups(int64_t heads) const {
    const int64_t wish = heads < 64 ? 64 / heads : 1;
    return windows() < wish ? windows() : wish;
  }
  /// On a GPU about 528 pieces, four for each multiprocessor of an H100.
  SIMMIM_INLINE int64_t cuda_groups(int64_t heads) const {
    const int64_t wish = heads < 528 ? 528 / heads : 1;
    return windows() < wish ? windows() : wish;
  }
};

SIMMIM_INLINE WindowGeometry window_geometry(const Tensor& qkv, const Ints& window, const Ints& shift) {
  const int64_t h = qkv.dim(1), w = qkv.dim(2), wh = window[0], ww = window[1];
  return {qkv.dim(0), h, w, wh, ww, shift[0], shift[1], (h + wh - 1) / wh, (w + ww - 1) / ww};
}

inline void check_windows(const Tensor& qkv, const Tensor& table, const Tensor& scales, int32_t heads, const Ints& window, const Ints& shift) {
  check_qkv(qkv, 4, heads);
  require(window.size == 2 && shift.size == 2, "window and shift have %d and %d entries, expected 2 and 2", window.size, shift.size);
  for (int i = 0; i < 2; i++) {
    require(window[i] >= 1 && window[i] <= 256, "window[%d] is %lld, expected 1 to 256", i, (long long)window[i]);
    require(window[i] <= qkv.dim(1 + i) || qkv.count() == 0, "window[%d] is %lld, expected at most %lld, the map's", i, (long long)window[i], (long long)qkv.dim(1 + i));
    require(shift[i] >= 0 && shift[i] < window[i], "shift[%d] is %lld, expected 0 to %lld", i, (long long)shift[i], (long long)window[i] - 1);
  }
  const int64_t entries = (2 * window[0] - 1) * (2 * window[1] - 1);
  require(table.shape.rank == 2 && table.dim(0) == entries && table.dim(1) == heads, "table has %lld values, expected [%lld, %d] = [(2*%lld-1)*(2*%lld-1), heads]", (long long)table.count(), (long long)entries, heads,
          (long long)window[0], (long long)window[1]);
  if (scales.present()) require(scales.shape.rank == 1 && scales.dim(0) == heads, "scales has %lld values, expected %d, one per head", (long long)scales.count(), heads);
}

struct WindowAttention {
  static constexpr const char* name = "window_attention";
  Tensor qkv, table, scales, y;
  int32_t heads;
  float scale;  // ignored when scales is given
  Ints window, shift;
  static auto spec() {
    return fields(in("qkv", &WindowAttention::qkv, kFloat), in("table", &WindowAttention::table, kF32), optional_in("scales", &WindowAttention::scales, kF32), out("y", &WindowAttention::y, kFloat),
                  par("heads", &WindowAttention::heads), par("scale", &WindowAttention::scale), par("window", &WindowAttention::window), par("shift", &WindowAttention::shift));
  }
  void check() const {
    check_windows(qkv, table, scales, heads, window, shift);
    check_mixed("y", y, qkv);
  }
};

/// Gradients of table and scales are summed per group of windows, then over groups, both in order.
struct WindowAttentionGrad {
  static constexpr const char* name = "window_attention_grad";
  Tensor dy, qkv, table, scales, dqkv, dtable, dscales;
  int32_t heads;
  float scale;
  Ints window, shift;
  void* workspace = nullptr;  // [groups, heads, entries + 1]
  static auto spec() {
    return fields(in("dy", &WindowAttentionGrad::dy, kFloat), in("qkv", &WindowAttentionGrad::qkv, kFloat), in("table", &WindowAttentionGrad::table, kF32), optional_in("scales", &WindowAttentionGrad::scales, kF32),
                  out("dqkv", &WindowAttentionGrad::dqkv, kFloat), out("dtable", &WindowAttentionGrad::dtable, kF32), optional_out("dscales", &WindowAttentionGrad::dscales, kF32),
                  par("heads", &WindowAttentionGrad::heads), par("scale", &WindowAttentionGrad::scale), par("window", &WindowAttentionGrad::window), par("shift", &WindowAttentionGrad::shift));
  }
  SIMMIM_INLINE int64_t groups() const { return window_geometry(qkv, window, shift).groups(heads); }
  size_t workspace_bytes() const { return static_cast<size_t>(groups() * heads * (table.dim(0) + 1)) * 4; }
  /// On a GPU: four numbers for each row of the scores, then [groups, heads, entries + 1]; or the sums of the tensor-core version.
  size_t cuda_workspace_bytes() const {
    const WindowGeometry g = window_geometry(qkv, window, shift);
    const size_t rows = attention_rows_bytes(g.windows(), heads, g.tokens()) + static_cast<size_t>(g.cuda_groups(heads) * heads * (table.dim(0) + 1)) * 4;
    return larger(rows, tile_sums_bytes(g.windows(), heads, g.tokens()));
  }
  void check() const {
    check_windows(qkv, table, scales, heads, window, shift);
    check_mixed("dy", dy, qkv);
    require_like("dqkv", dqkv, "qkv", qkv);
    require_like("dtable", dtable, "table", table);
    if (dscales.present()) {
      require(scales.present(), "dscales is wanted without scales");
      require_like("dscales", dscales, "scales", scales);
    }
  }
};

}  // namespace simmim
