#include "window_attention.h"

#include "../cpu/attention_core.h"
#include "../cpu/thread_pool.h"
#include "../cpu/usable_threads.h"

namespace simmim::SIMMIM_ISA {
namespace {

/// What one call has in common, and what of it one (window, head) needs.
template <class T>
struct Windows {
  WindowGeometry g;
  const T* qkv;
  const float* table;
  const float* scales;
  int64_t heads, channels, d;
  float scale;

  template <class K>
  explicit Windows(const K& k)
      : g(window_geometry(k.qkv, k.window, k.shift)), qkv(k.qkv.template as<T>()), table(k.table.f32()), scales(k.scales.f32()), heads(k.heads), channels(k.qkv.dim(3) / 3), d(channels / k.heads), scale(k.scale) {}
};

/// The cells of one window: where each token lies and which region of the shifted map it belongs to.
struct Cells {
  int32_t* token;   // [N] index in [B H W], or -1 in the padding
  int32_t* region;  // [N]
  bool masked;      // some pair of cells may not see each other
  /// Where token i lies in a map of `pitch` values a cell.
  int64_t offset(int64_t i, int64_t pitch) const { return token[i] < 0 ? -1 : token[i] * pitch; }

  /// `rows`: N in whole registers; region is -1 there and for padding.
  void place(const WindowGeometry& g, int64_t window, int64_t rows) {
    const int64_t column = window % g.columns, row = window / g.columns % g.rows, image = window / (g.columns * g.rows);
    const int64_t padded_h = g.rows * g.wh, padded_w = g.columns * g.ww;
    int64_t i = 0;
    masked = false;
    for (int64_t y = 0; y < g.wh; y++) {
      const int64_t ry = row * g.wh + y, py = ry + g.sh < padded_h ? ry + g.sh : ry + g.sh - padded_h;  // no division: once a token and head
      const int64_t line = (image * g.height + py) * g.width;
      const int32_t zone = WindowGeometry::region_of(ry, padded_h, g.wh, g.sh) * 3;
      for (int64_t x = 0; x < g.ww; x++, i++) {
        const int64_t rx = column * g.ww + x, px = rx + g.sw < padded_w ? rx + g.sw : rx + g.sw - padded_w;
        const bool real = py < g.height && px < g.width;
        token[i] = real ? static_cast<int32_t>(line + px) : -1;
        region[i] = real ? zone + WindowGeometry::region_of(rx, padded_w, g.ww, g.sw) : -1;
        masked = masked || !real || region[i] != region[0];
      }
    }
    for (; i < rows; i++) token[i] = region[i] = -1;
  }
};

/// The entries of one head's table in the order in which a row of the bias matrix takes them: query (yi, xi) and key (yj, xj) meet
/// on line yi - yj + wh - 1 at xj - xi + ww - 1, so that a line of keys is a segment of ww.
struct TableLines {
  float* values;  // [2wh-1, pitch]; whole registers can be read and written from the start of every segment
  int64_t pitch;
  static int64_t pitch_of(int64_t ww) { return lanes_up(2 * ww - 1) + kLanes; }
  /// f(entry of the table, its place here) for each of them.
  template <class F>
  void each(const WindowGeometry& g, const F& f) const {
    int64_t entry = 0;
    for (float* line = values; line < values + (2 * g.wh - 1) * pitch; line += pitch)
      for (int64_t x = 2 * g.ww - 2; x >= 0; x--) f(entry++, line[x]);
  }
};

/// The bias of one head times log2(e), as a matrix [N, rows], -infinity in the padding of a row. Writes up to a register beyond it.
template <class T>
void expand_bias(const Windows<T>& w, int64_t head, int64_t rows, const TableLines& lines, float* bias) {
  const WindowGeometry& g = w.g;
  const int64_t wh = g.wh, ww = g.ww, n = g.tokens();
  lines.each(g, [&](int64_t entry, float& place) { place = w.table[entry * w.heads + head] * kLog2E; });
  for (int64_t yi = 0; yi < wh; yi++)
    for (int64_t xi = 0; xi < ww; xi++, bias += rows) {
      const float* segment = lines.values + (yi + wh - 1) * lines.pitch + ww - 1 - xi;
      for (int64_t j = 0; j < n; j += ww, segment -= lines.pitch)
        for (int64_t xj = 0; xj < ww; xj += kLanes) store(bias + j + xj, load(segment + xj));
      for (int64_t j = n; j < rows; j++) bias[j] = -kInfinity;
    }
}

/// x / max(|x|, 1e-12) for every row, in place; keeps the factors for the gradient.
void normalize_rows(const HeadTiles& t, float* tile, float* factors) {
  for (int64_t i = 0; i < t.tokens; i++, tile += t.width) {
    const float squares = row_sum(t.width, [&](int64_t c, int) { return load(tile + c) * load(tile + c); });
    factors[i] = 1.0f / __builtin_sqrtf(squares > 1e-24f ? squares : 1e-24f);
    for (int64_t c = 0; c < t.width; c += kLanes) store(tile + c, load(tile + c) * factors[i]);
  }
}

/// From the gradient of the normalised row n to that of the row itself: (dn - n (n . dn)) / |x|.
void normalize_gradient(const HeadTiles& t, const float* n, const float* factors, float* dn) {
  for (int64_t i = 0; i < t.tokens; i++, n += t.width, dn += t.width) {
    const float dot = row_sum(t.width, [&](int64_t c, int) { return load(n + c) * load(dn + c); });
    const float along = factors[i] < 1e12f ? dot : 0.0f;  // below the clamp the divisor is a constant
    for (int64_t c = 0; c < t.width; c += kLanes) store(dn + c, (load(dn + c) - load(n + c) * along) * factors[i]);
  }
}

/// Heads that a thread takes together, window by window: their rows lie side by side in memory, and what is asked for ahead falls
/// into other sets of the caches than what is in use. Fewer where many threads want work.
int64_t heads_together(int64_t heads, int64_t groups) {
  int64_t together = 4;
  while (together > 1 && (heads % together != 0 || groups * heads / together < 8 * usable_threads())) together /= 2;
  return together;
}

/// Scratch beside the tiles. Of each head: bias [N, rows] and its gradient [N, rows]. Of the one at hand: cells of this window and the
/// next, factors of q and k, a table.
struct Extra {
  float *biases, *dbiases, *q_factors, *k_factors;
  float *bias, *dbias;  // of the head at hand
  Cells cells, next;
  TableLines lines;
  const int32_t* ahead_token;  // cells and head that come after these
  int64_t ahead_head;

  static int64_t floats(const WindowGeometry& g, int64_t rows, int64_t heads) { return heads * 2 * g.tokens() * rows + 6 * rows + (2 * g.wh - 1) * TableLines::pitch_of(g.ww); }
  static Extra make(const WindowGeometry& g, int64_t rows, int64_t heads, float* p) {
    Extra e;
    e.biases = p;
    e.dbiases = e.biases + heads * g.tokens() * rows;
    e.q_factors = e.dbiases + heads * g.tokens() * rows;
    e.k_factors = e.q_factors + rows;
    e.cells.token = reinterpret_cast<int32_t*>(e.k_factors + rows);
    e.cells.region = e.cells.token + rows;
    e.next.token = e.cells.region + rows;
    e.next.region = e.next.token + rows;
    e.lines = {reinterpret_cast<float*>(e.next.region + rows), TableLines::pitch_of(g.ww)};
    e.cells.masked = e.next.masked = false;
    return e;
  }
  ScoreTerms terms(int64_t rows) const { return {bias, rows, true, cells.masked ? cells.region : nullptr}; }
};

/// f(h) for the windows [begin, end), and in each for the h-th of `count` heads from `first` on.
template <class T, class F>
void for_windows(const Windows<T>& w, Extra& e, int64_t rows, int64_t begin, int64_t end, int64_t first, int64_t count, const F& f) {
  const int64_t square = w.g.tokens() * rows;
  if (begin < end) e.next.place(w.g, begin, rows);
  for (int64_t window = begin; window < end; window++) {
    const Cells current = e.next;
    e.next = window + 1 < end ? e.cells : current;
    e.cells = current;
    if (window + 1 < end) e.next.place(w.g, window + 1, rows);
    for (int64_t h = 0; h < count; h++) {
      const bool last = h + 1 == count;
      e.ahead_token = last ? e.next.token : e.cells.token;
      e.ahead_head = last ? first : first + h + 1;
      e.bias = e.biases + h * square;
      e.dbias = e.dbiases + h * square;
      f(h);
    }
  }
}

/// q, k, v of one window and head; q carries the scale of the scores.
template <class T>
void gather_window(const Windows<T>& w, const HeadTiles& t, const Extra& e, int64_t head) {
  const T* at = w.qkv + head * w.d;
  const auto token = [&](int64_t i) { return e.cells.offset(i, 3 * w.channels); };
  gather_rows(t, at, token, w.scales ? 1.0f : w.scale * kLog2E, t.q);
  if (t.v_columns) gather_columns(t, at + 2 * w.channels, token, t.v, t.v_columns);
  else gather_rows(t, at + 2 * w.channels, token, 1.0f, t.v);
  if (!t.v_columns && !w.scales) return gather_columns(t, at + w.channels, token, t.k, t.k_columns);
  gather_rows(t, at + w.channels, token, 1.0f, t.k);
  if (w.scales) {
    normalize_rows(t, t.q, e.q_factors);
    normalize_rows(t, t.k, e.k_factors);
    for (int64_t i = 0; i < t.tokens * t.width; i += kLanes) store(t.q + i, load(t.q + i) * (w.scales[head] * kLog2E));
  }
  transpose_tile(t, t.k, t.k_columns);
}

/// Asks for the lines of one token's row (d values of `parts` tensors, `step` apart): window rows lie too far apart for the
/// processor to foresee them. A few at a time, because only so many can be on their way; what is asked for beyond is forgotten.
template <int WRITE = 0, class T>
SIMMIM_INLINE void prefetch_row(int32_t token, const T* base, int64_t width, int64_t d, int parts, int64_t step) {
  if (token < 0) return;
  const T* row = base + token * width;
  constexpr int64_t line = 64 / sizeof(T);
  if (d == 2 * line) {  // the usual case without loops, as this is called for every token
#pragma GCC unroll 3
    for (int part = 0; part < parts; part++, row += step) {
      __builtin_prefetch(row, WRITE, 2);
      __builtin_prefetch(row + line, WRITE, 2);
    }
    return;
  }
  for (int part = 0; part < parts; part++, row += step)
    for (int64_t c = 0; c < d; c += line) __builtin_prefetch(row + c, WRITE, 2);
}

/// Groups of windows and heads: the bias is expanded once for each.
template <class T>
void forward(const WindowAttention& k) {
  const Windows<T> w(k);
  const int64_t n = w.g.tokens(), rows = lanes_up(n), windows = w.g.windows(), groups = w.g.groups(k.heads);
  const bool large = k.y.bytes() > kStreamedBytes;
  const int64_t together = heads_together(w.heads, groups), blocks = w.heads / together;
  parallel_for(groups * blocks, [&](int64_t item) {
    const int64_t first_head = item % blocks * together, group = item / blocks;
    float* rest;
    const HeadTiles t = HeadTiles::make(n, w.d, false, Extra::floats(w.g, rows, together), &rest);
    Extra e = Extra::make(w.g, rows, together, rest);
    for (int64_t h = 0; h < together; h++) expand_bias(w, first_head + h, rows, e.lines, e.biases + h * n * rows);
    for_windows(w, e, rows, group * windows / groups, (group + 1) * windows / groups, first_head, together, [&](int64_t h) {
      const int64_t head = first_head + h;
      gather_window(w, t, e, head);
      int64_t asked = 0;
      const auto ahead = [&] {
        if (asked == n) return;
        prefetch_row(e.ahead_token[asked], w.qkv + e.ahead_head * w.d, 3 * w.channels, w.d, 3, w.channels);
        if (!large) prefetch_row<1>(e.cells.token[asked], k.y.as<T>() + head * w.d, w.channels, w.d, 1, int64_t{0});
        asked++;
      };
      attend(t, e.terms(rows), ahead, [&](int64_t first, const float* inverse) {
        return TokenRows<T>::make(k.y.as<T>() + head * w.d, e.cells.token + first, w.channels, w.d, inverse, 0, large);
      });
    });
    end_streaming();
  });
}

/// Gradients of one window and head; adds to e.dbias and *dscale.
template <class T>
void gradient_of(const WindowAttentionGrad& k, const Windows<T>& w, const HeadTiles& t, const Extra& e, int64_t head, float* dscale) {
  gather_window(w, t, e, head);
  const bool large = k.qkv.bytes() + k.dqkv.bytes() > kStreamedBytes;  // both pass through the caches
  int64_t asked = 0;
  const auto ahead = [&] {
    if (asked < t.tokens) {
      prefetch_row(e.ahead_token[asked], w.qkv + e.ahead_head * w.d, 3 * w.channels, w.d, 3, w.channels);
      prefetch_row(e.ahead_token[asked], k.dy.as<T>() + e.ahead_head * w.d, w.channels, w.d, 1, int64_t{0});
    } else if (asked < 2 * t.tokens && !large) {
      prefetch_row<1>(e.cells.token[asked - t.tokens], k.dqkv.as<T>() + head * w.d, 3 * w.channels, w.d, 3, w.channels);
    }
    asked++;
  };
  const auto gather_dout = [&](int64_t begin, int64_t end, const float* inverse) {
    gather_rows(t, begin, end, k.dy.as<T>() + head * w.d, [&](int64_t i) { return e.cells.offset(i, w.channels); }, [&](int64_t i) { return inverse[i - begin]; }, t.dout);
  };
  const auto add_bias = [&](int64_t i, int64_t j, Vec ds) {
    float* at = e.dbias + i * t.rows + j;
    store(at, load(at) + ds);
  };
  const auto place = [&](int64_t part, float factor) { return TokenRows<T>::make(k.dqkv.as<T>() + part * w.channels + head * w.d, e.cells.token, 3 * w.channels, w.d, nullptr, factor, large); };
  if (!w.scales) return attend_gradient(t, e.terms(t.rows), ahead, gather_dout, add_bias, GradientRows{place(0, w.scale), place(1, kLn2), place(2, 1)});
  attend_gradient(t, e.terms(t.rows), ahead, gather_dout, add_bias, GradientRows{StoreRows{t.dq, t.width}, StoreRows{t.dk, t.width}, place(2, 1)});
  // q is s n log2(e): dn = s dq, and ds = n . dq summed over the window; n itself is q / (s log2(e)).
  const float s = w.scales[head], n_factor = 1.0f / (s * kLog2E);
  float total = 0;
  for (int64_t i = 0; i < t.tokens; i++) total += row_sum(t.width, [&](int64_t c, int) { return load(t.q + i * t.width + c) * load(t.dq + i * t.width + c); });
  *dscale += total * n_factor;
  for (int64_t i = 0; i < t.tokens * t.width; i += kLanes) {
    store(t.q + i, load(t.q + i) * n_factor);
    store(t.dq + i, load(t.dq + i) * s);
    store(t.dk + i, load(t.dk + i) * kLn2);
  }
  normalize_gradient(t, t.q, e.q_factors, t.dq);
  normalize_gradient(t, t.k, e.k_factors, t.dk);
  scatter_rows(t, t.dq, place(0, 1));
  scatter_rows(t, t.dk, place(1, 1));
}

/// Sums the gradient of the bias matrix [N, rows] into the table's entries: in registers over pairs of lines equally far apart, then
/// over the queries of a line.
void collect_bias(const WindowGeometry& g, int64_t rows, const float* dbias, const TableLines& lines, float* entries) {
  const int64_t wh = g.wh, ww = g.ww;
  for (int64_t x = 0; x < (2 * wh - 1) * lines.pitch; x++) lines.values[x] = 0;
  for (int64_t xi = 0; xi < ww; xi++)
    for (int64_t dy = 1 - wh; dy < wh; dy++) {
      const int64_t first = dy > 0 ? dy : 0, last = dy > 0 ? wh : wh + dy;  // lines of queries whose keys' line exists
      float* segment = lines.values + (dy + wh - 1) * lines.pitch + ww - 1 - xi;
      for_lanes(ww, [&](int64_t xj, int lanes) {
        Vec sum{};
        for (int64_t yi = first; yi < last; yi++) sum += load_lanes(dbias + (yi * ww + xi) * rows + (yi - dy) * ww + xj, lanes);
        store(segment + xj, load(segment + xj) + sum);
      });
    }
  lines.each(g, [&](int64_t entry, float& place) { entries[entry] = place; });
}

template <class T>
void backward(const WindowAttentionGrad& k) {
  const Windows<T> w(k);
  const int64_t n = w.g.tokens(), rows = lanes_up(n), windows = w.g.windows(), groups = k.groups(), pitch = w.g.entries() + 1;
  float* partial = static_cast<float*>(k.workspace);
  const int64_t together = heads_together(w.heads, groups), blocks = w.heads / together;
  parallel_for(groups * blocks, [&](int64_t item) {
    const int64_t group = item / blocks, first_head = item % blocks * together;
    float* rest;
    const HeadTiles t = HeadTiles::make(n, w.d, true, Extra::floats(w.g, rows, together), &rest);
    Extra e = Extra::make(w.g, rows, together, rest);
    for (int64_t h = 0; h < together; h++) expand_bias(w, first_head + h, rows, e.lines, e.biases + h * n * rows);
    for (int64_t i = 0; i < together * n * rows; i += kLanes) store(e.dbiases + i, Vec{});
    float* sums = partial + (group * w.heads + first_head) * pitch;  // of head h at h * pitch: the table's, then the scale's
    for (int64_t h = 0; h < together; h++) sums[(h + 1) * pitch - 1] = 0;
    for_windows(w, e, rows, group * windows / groups, (group + 1) * windows / groups, first_head, together, [&](int64_t h) {
      gradient_of(k, w, t, e, first_head + h, &sums[(h + 1) * pitch - 1]);
    });
    end_streaming();
    for (int64_t h = 0; h < together; h++) collect_bias(w.g, rows, e.dbiases + h * n * rows, e.lines, sums + h * pitch);
  });
  for (int64_t x = 0; x < pitch; x++)
    for (int64_t head = 0; head < w.heads; head++) {
      float total = 0;
      for (int64_t group = 0; group < groups; group++) total += partial[(group * w.heads + head) * pitch + x];
      if (x + 1 < pitch) k.dtable.f32()[x * w.heads + head] = total;
      else if (k.dscales.present()) k.dscales.f32()[head] = total;
    }
}

}  // namespace

void run(const WindowAttention& k) {
  if (k.qkv.count() == 0) return;
  if (k.qkv.dtype == DType::bf16) forward<uint16_t>(k);
  else forward<float>(k);
}

void run(const WindowAttentionGrad& k) {
  if (k.qkv.count() == 0) {
    for (int64_t i = 0; i < k.dtable.count(); i++) k.dtable.f32()[i] = 0;
    for (int64_t i = 0; k.dscales.present() && i < k.dscales.count(); i++) k.dscales.f32()[i] = 0;
    return;
  }
  if (k.qkv.dtype == DType::bf16) backward<uint16_t>(k);
  else backward<float>(k);
}

}  // namespace simmim::SIMMIM_ISA
