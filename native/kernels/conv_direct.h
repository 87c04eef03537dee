// Results of windows times a filter, read where the windows lie: no matrix of patches is made. A piece of the results (some
// lines of one sample) is computed by one thread, from x itself where all its windows lie inside and from a copy with zeros
// around it otherwise. The filter lies in panels of kPanel channels; a tile of windows and a panel meet in registers, and
// every result is one fused multiply-add chain over its window.
#pragma once
#include "../cpu/gemm.h"
#include "../cpu/small_matmul.h"
#include "../cpu/thread_pool.h"
#include "window.h"

namespace simmim::SIMMIM_ISA {

constexpr int kPanelVecs = 2, kPanel = kPanelVecs * kLanes;
SIMMIM_INLINE int64_t panels_of(int64_t channels) { return (channels + kPanel - 1) / kPanel; }

/// What a window reads: planes x lines x taps runs of neighbouring floats, and how many floats they are apart.
struct Reach {
  int64_t planes, lines, taps, run;
  int64_t plane_step, line_step, tap_step;
};

/// c[MR, NV registers] = bias + MR windows, `step` floats apart, times a panel.
template <int MR, int NV>
static void window_tile(const Reach& r, const float* x, int64_t step, const float* panel, const float* bias, float* c, int64_t ldc) {
  Vec sums[MR][NV];
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
    for (int j = 0; j < NV; j++) sums[i][j] = Vec{};
  for (int64_t plane = 0; plane < r.planes; plane++)
    for (int64_t line = 0; line < r.lines; line++)
      for (int64_t tap = 0; tap < r.taps; tap++) {
        const float* a = x + plane * r.plane_step + line * r.line_step + tap * r.tap_step;
        for (int64_t p = 0; p < r.run; p++, a++, panel += kPanel) {
          Vec row[NV];
#pragma GCC unroll 2
          for (int j = 0; j < NV; j++) row[j] = load(panel + j * kLanes);
#pragma GCC unroll 16
          for (int i = 0; i < MR; i++) {
            const Vec value = splat(a[i * step]);
#pragma GCC unroll 2
            for (int j = 0; j < NV; j++) sums[i][j] = fma(value, row[j], sums[i][j]);
          }
        }
      }
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
    for (int j = 0; j < NV; j++) store(c + i * ldc + j * kLanes, sums[i][j] + load(bias + j * kLanes));
}

using WindowTile = void (*)(const Reach& r, const float* x, int64_t step, const float* panel, const float* bias, float* c, int64_t ldc);
/// By number of windows.
template <int NV>
struct WindowTiles {
  WindowTile of[kSmallRows[NV] + 1] = {};
  constexpr WindowTiles() { fill<kSmallRows[NV]>(); }
  template <int MR>
  constexpr void fill() {
    of[MR] = window_tile<MR, NV>;
    if constexpr (MR > 1) fill<MR - 1>();
  }
};
constexpr WindowTiles<1> kNarrowTiles;
constexpr WindowTiles<2> kWideTiles;

/// Panels [panel][depth][kPanel] of a filter [depth, channels], zeros behind the last channel; then the bias, zeros where there is none.
static void pack_filter(const float* filter, int64_t depth, int64_t channels, const float* bias, float* to) {
  const int64_t panels = panels_of(channels);
  parallel_ranges(depth, 16384 / (channels + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++)
      for (int64_t channel = 0; channel < channels; channel += kLanes) {
        const float* from = filter + p * channels + channel;
        float* out = to + (channel / kPanel * depth + p) * kPanel + channel % kPanel;
        store(out, channels - channel >= kLanes ? load(from) : load_n(from, static_cast<int>(channels - channel)));
      }
  });
  // the second register of the last panel is not computed where it has no channels
  for (int64_t j = 0; j < panels * kPanel; j++) to[panels * depth * kPanel + j] = bias && j < channels ? bias[j] : 0;
}

/// Windows over x [B, D, H, W, C] times a packed filter: `extent` results of each sample, with every result at first + step * its
/// number along each axis of y [B, ., ., ., O].
struct WindowProduct {
  const Tensor& x;
  const Window& w;
  const int64_t* extent;
  const float* filter;  // as pack_filter makes it
  const Tensor& y;
  int64_t first[3] = {0, 0, 0}, step[3] = {1, 1, 1};
  int64_t depth = 0;
  // of a piece of the results
  int64_t lines = 1, columns = 1;

  WindowProduct(const Tensor& x, const Window& w, const int64_t* extent, const float* filter, const Tensor& y) : x(x), w(w), extent(extent), filter(filter), y(y) {
    depth = w.taps() * x.dim(4);
    const int64_t rows = x.dim(0) * extent[0] * extent[1] * extent[2], shared = rows / 16;
    const int64_t wanted = shared < 24 ? 24 : shared > kMostRows ? kMostRows : shared;
    columns = even_part(extent[2], wanted);
    while (columns > 1 && copy_of(1).floats() > kMostCopied) columns = (columns + 1) / 2;
    lines = even_part(extent[1], wanted / columns);
    while (lines > 1 && copy_of(lines).floats() > kCopied) lines = (lines + 1) / 2;
  }

  /// finish(results of a line that are complete, how many) is told about neighbouring ones.
  template <class F>
  void run(const F& finish) const {
    const int64_t bands = ceil_div(extent[1], lines), strips = ceil_div(extent[2], columns);
    parallel_for(x.dim(0) * extent[0] * bands * strips, [&](int64_t item) {
      Piece piece;
      piece.column = item % strips * columns, piece.columns = smaller(columns, extent[2] - piece.column);
      piece.line = item / strips % bands * lines, piece.lines = smaller(lines, extent[1] - piece.line);
      piece.plane = item / (strips * bands) % extent[0], piece.b = item / (strips * bands * extent[0]);
      run_piece(piece, finish);
    });
  }

 private:
  static constexpr int64_t kMostRows = 256;        // results of a piece
  static constexpr int64_t kCopied = 48 << 10;     // floats of its copy that leave room for panels in the second-level cache
  static constexpr int64_t kMostCopied = 256 << 10;
  static constexpr int64_t kPanelFloats = 48 << 10;  // panels that are gone through for every tile

  struct Piece {
    int64_t b, plane, line, lines, column, columns;
  };
  /// The copy that a piece reads: lines are shared by the windows that reach them, or repeated where gaps would be more.
  struct Copy {
    int64_t planes, lines, width, line_floats;
    bool repeats;
    SIMMIM_INLINE int64_t floats() const { return planes * lines * line_floats; }
  };

  static SIMMIM_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
  static SIMMIM_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
  /// Of `total` in as few equal parts as have at most `wanted`.
  static SIMMIM_INLINE int64_t even_part(int64_t total, int64_t wanted) {
    if (wanted < 1) wanted = 1;
    return total <= wanted ? (total < 1 ? 1 : total) : ceil_div(total, ceil_div(total, wanted));
  }

  SIMMIM_INLINE Copy copy_of(int64_t lines) const {
    Copy copy;
    copy.planes = w.size[0];
    const int64_t spanned = (lines - 1) * w.stride[1] + (w.size[1] - 1) * w.dilation[1] + 1, repeated = lines * w.size[1];
    copy.repeats = repeated < spanned;
    copy.lines = copy.repeats ? repeated : spanned;
    copy.width = (columns - 1) * w.stride[2] + (w.size[2] - 1) * w.dilation[2] + 1;
    copy.line_floats = copy.width * x.dim(4);
    return copy;
  }

  SIMMIM_INLINE bool is_inside(int axis, int64_t from, int64_t count) const {
    return w.source(axis, from, 0) >= 0 && w.source(axis, from + count - 1, w.size[axis] - 1) < x.dim(1 + axis);
  }

  void copy_line(int64_t b, int64_t z, int64_t line, int64_t from, int64_t width, float* to) const {
    const int64_t c = x.dim(4), end = from + width;
    const bool outside = z < 0 || z >= x.dim(1) || line < 0 || line >= x.dim(2);
    const int64_t begin = outside || from < 0 ? smaller(0, end) : from, stop = outside ? begin : smaller(end, x.dim(3));
    const int64_t low = begin > from ? begin : from, high = stop > low ? stop : low;
    __builtin_memset(to, 0, static_cast<size_t>((low - from) * c) * 4);
    if (high > low) __builtin_memcpy(to + (low - from) * c, x.f32() + (((b * x.dim(1) + z) * x.dim(2) + line) * x.dim(3) + low) * c, static_cast<size_t>((high - low) * c) * 4);
    __builtin_memset(to + (high - from) * c, 0, static_cast<size_t>((end - high) * c) * 4);
  }
  const float* fill(const Copy& copy, const Piece& p) const {
    float* const copied = gemm_buffer(GemmBuffer::patches, static_cast<size_t>(copy.floats()));
    float* to = copied;
    for (int64_t i = 0; i < copy.planes; i++)
      for (int64_t l = 0; l < copy.lines; l++, to += copy.line_floats) {
        const int64_t line = copy.repeats ? w.source(1, p.line + l / w.size[1], l % w.size[1]) : w.source(1, p.line, 0) + l;
        copy_line(p.b, w.source(0, p.plane, i), line, w.source(2, p.column, 0), copy.width, to);
      }
    return copied;
  }

  template <class F>
  void run_piece(const Piece& p, const F& finish) const {
    const int64_t c = x.dim(4), o = y.dim(4);
    const bool joined = w.dilation[2] == 1 || w.size[2] == 1;  // taps of a line are one run
    Reach reach{w.size[0], w.size[1], joined ? 1 : w.size[2], joined ? w.size[2] * c : c, 0, 0, w.dilation[2] * c};
    const float* from;
    int64_t next_line;
    if (depth == 0) {
      from = x.f32(), next_line = 0;  // a window that reaches nothing
    } else if (is_inside(0, p.plane, 1) && is_inside(1, p.line, p.lines) && is_inside(2, p.column, p.columns)) {
      const int64_t line = x.dim(3) * c, plane = x.dim(2) * line;
      from = x.f32() + (p.b * x.dim(1) + w.source(0, p.plane, 0)) * plane + w.source(1, p.line, 0) * line + w.source(2, p.column, 0) * c;
      reach.plane_step = w.dilation[0] * plane, reach.line_step = w.dilation[1] * line, next_line = w.stride[1] * line;
    } else {
      const Copy copy = copy_of(p.lines);
      from = fill(copy, p);
      reach.plane_step = copy.lines * copy.line_floats;
      reach.line_step = (copy.repeats ? 1 : w.dilation[1]) * copy.line_floats;
      next_line = (copy.repeats ? w.size[1] : w.stride[1]) * copy.line_floats;
    }
    const int64_t panels = panels_of(o), at_a_time = kPanelFloats / (depth * kPanel + 1) + 1;
    for (int64_t panel = 0; panel < panels; panel += at_a_time) {
      const int64_t end = smaller(panels, panel + at_a_time);
      for (int64_t l = 0; l < p.lines; l++) {
        float* to = result(p, l);
        run_line(reach, from + l * next_line, p.columns, panel, end, to);
        if (end == panels) finish(to, p.columns);
      }
    }
  }
  SIMMIM_INLINE float* result(const Piece& p, int64_t line) const {
    int64_t at = p.b;
    const int64_t number[3] = {p.plane, p.line + line, p.column};
    for (int i = 0; i < 3; i++) at = at * y.dim(1 + i) + first[i] + number[i] * step[i];
    return y.f32() + at * y.dim(4);
  }

  /// `n` results of a line, channels of the panels [begin, end).
  void run_line(const Reach& reach, const float* from, int64_t n, int64_t begin, int64_t end, float* to) const {
    const int64_t o = y.dim(4), ld = step[2] * o, x_step = w.stride[2] * x.dim(4), most = o > kLanes ? kSmallRows[2] : kSmallRows[1];
    const float* const bias = filter + panels_of(o) * depth * kPanel;
    int64_t tiles = ceil_div(n, most);
    for (int64_t i = 0; tiles > 0; tiles--) {
      const int64_t rows = (n - i) / tiles;
      for (int64_t panel = begin; panel < end; panel++) {
        const int64_t channel = panel * kPanel, width = smaller(kPanel, o - channel);
        const WindowTile tile = width > kLanes ? kWideTiles.of[rows] : kNarrowTiles.of[rows];
        const float *a = from + i * x_step, *b = filter + channel * depth;
        float* c = to + i * ld + channel;
        if (width == kPanel) {
          tile(reach, a, x_step, b, bias + channel, c, ld);
          continue;
        }
        float aside[kSmallRows[1] * kPanel];
        tile(reach, a, x_step, b, bias + channel, aside, kPanel);
        for (int64_t r = 0; r < rows; r++)
          for (int64_t j = 0; j < width; j++) c[r * ld + j] = aside[r * kPanel + j];
      }
      i += rows;
    }
  }
};

}  // namespace simmim::SIMMIM_ISA
