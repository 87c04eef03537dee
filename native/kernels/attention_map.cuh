// What attends to what: the tokens of one instance (a window of a shifted map, or an image) in memory, and what is added to
// their scores. Kernels are templates over a map.
#pragma once
#include "window_attention.h"
#include "../cuda/device.cuh"

namespace simmim::cuda {

/// One token of an instance.
struct Cell {
  int64_t token;   // in the tensor, or -1 in the padding
  int32_t region;  // of the shifted map
  int32_t line;    // its place in the bias
};

/// Windows of a shifted map with the table of relative position biases.
struct WindowMap {
  WindowGeometry g;
  const float* table;
  int64_t heads;

  SIMMIM_INLINE int64_t instances() const { return g.windows(); }
  SIMMIM_INLINE int64_t tokens() const { return g.tokens(); }
  SIMMIM_DEVICE Cell cell(int64_t window, int64_t i) const {
    const int64_t column = window % g.columns, row = window / g.columns % g.rows, image = window / (g.columns * g.rows);
    const int64_t y = i / g.ww, x = i % g.ww, padded_h = g.rows * g.wh, padded_w = g.columns * g.ww;
    const int64_t ry = row * g.wh + y, py = ry + g.sh < padded_h ? ry + g.sh : ry + g.sh - padded_h;
    const int64_t rx = column * g.ww + x, px = rx + g.sw < padded_w ? rx + g.sw : rx + g.sw - padded_w;
    const int32_t line = static_cast<int32_t>(y * (2 * g.ww - 1) + x);
    if (py >= g.height || px >= g.width) return {-1, -1, line};
    return {(image * g.height + py) * g.width + px, WindowGeometry::region_of(ry, padded_h, g.wh, g.sh) * 3 + WindowGeometry::region_of(rx, padded_w, g.ww, g.sw), line};
  }
  /// Entry of the table for query q and key k.
  SIMMIM_DEVICE int32_t entry(const Cell& q, const Cell& k) const { return q.line - k.line + static_cast<int32_t>((g.wh - 1) * (2 * g.ww - 1) + g.ww - 1); }
  SIMMIM_DEVICE float added(int64_t head, const Cell& q, const Cell& k) const { return table[entry(q, k) * heads + head] + apart(q, k); }
  /// One head's biases, for a block that keeps them in shared memory.
  SIMMIM_INLINE int64_t head_biases() const { return g.entries(); }
  SIMMIM_DEVICE float head_bias(int64_t head, int64_t i) const { return table[i * heads + head]; }
  SIMMIM_DEVICE float added(const float* biases, int64_t, const Cell& q, const Cell& k) const { return biases[entry(q, k)] + apart(q, k); }
  static SIMMIM_DEVICE float apart(const Cell& q, const Cell& k) { return q.region != k.region ? -100.0f : 0.0f; }
};

/// Whole images with an optional bias matrix [heads, L, L].
struct ImageMap {
  int64_t batch, length;
  const float* bias;

  SIMMIM_INLINE int64_t instances() const { return batch; }
  SIMMIM_INLINE int64_t tokens() const { return length; }
  SIMMIM_DEVICE Cell cell(int64_t image, int64_t i) const { return {image * length + i, 0, static_cast<int32_t>(i)}; }
  SIMMIM_DEVICE float added(int64_t head, const Cell& q, const Cell& k) const { return bias ? bias[(head * length + q.line) * length + k.line] : 0.0f; }
  SIMMIM_INLINE int64_t head_biases() const { return 0; }  // they are as many as the scores
  SIMMIM_DEVICE float head_bias(int64_t, int64_t) const { return 0; }
  SIMMIM_DEVICE float added(const float*, int64_t head, const Cell& q, const Cell& k) const { return added(head, q, k); }
};

/// The tensors of one call; `scales` [heads] makes the scores cosines.
template <class T>
struct HeadTensors {
  const T *qkv, *dy;
  T *y, *dqkv;
  const float* scales;
  float* numbers;  // [instances, heads, tokens, kRowNumbers]
  int64_t heads, channels, d;
  float scale;
  SIMMIM_DEVICE int64_t part(const Cell& c, int64_t head, int which) const { return c.token * 3 * channels + which * channels + head * d; }
  SIMMIM_DEVICE int64_t mixed(const Cell& c, int64_t head) const { return c.token * channels + head * d; }
};

/// What both attentions and their gradients have in common.
template <class T, class K>
HeadTensors<T> head_tensors(const K& k) {
  HeadTensors<T> t{};
  t.qkv = k.qkv.template as<T>();
  t.heads = k.heads, t.channels = k.qkv.dim(-1) / 3, t.d = t.channels / k.heads;
  t.scale = k.scale;
  return t;
}

}  // namespace simmim::cuda
