#include "window_attention.h"

#include "../cpu/attention_core.h"
#include "../cpu/thread_pool.h"

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

/// The bias of one head as a matrix [N, rows], -infinity in the padding of a row.
template <class T>
void expand_bias(const Windows<T>& w, int64_t head, int64_t rows, float* bias) {
  const WindowGeometry& g = w.g;
  for (int64_t yi = 0, i = 0; yi < g.wh; yi++)
    for (int64_t xi = 0; xi < g.ww; xi++, i++) {
      float* row = bias + i * rows;
      for (int64_t yj = 0; yj < g.wh; yj++)
        for (int64_t xj = 0; xj < g.ww; xj++) *row++ = w.table[((yi - yj + g.wh - 1) * (2 * g.ww - 1) + xi - xj + g.ww - 1) * w.heads + head];
      for (int64_t j = g.tokens(); j < rows; j++) *row++ = -kInfinity;
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

/// Scratch beside the tiles: bias [N, rows], its gradient [N, rows], cells of this window and the next, factors of q and k.
struct Extra {
  float *bias, *dbias, *q_factors, *k_factors;
  Cells cells, next;
  static int64_t floats(int64_t tokens, int64_t rows) { return 2 * tokens * rows + 6 * rows; }
  static Extra make(int64_t tokens, int64_t rows, float* p) {
    Extra e;
    e.bias = p;
    e.dbias = e.bias + tokens * rows;
    e.q_factors = e.dbias + tokens * rows;
    e.k_factors = e.q_factors + rows;
    e.cells.token = reinterpret_cast<int32_t*>(e.k_factors + rows);
    e.cells.region = e.cells.token + rows;
    e.next.token = e.cells.region + rows;
    e.next.region = e.next.token + rows;
    e.cells.masked = e.next.masked = false;
    return e;
  }
  ScoreTerms terms(int64_t rows) const { return {bias, rows, true, cells.masked ? cells.region : nullptr}; }
};

/// q, k, v of one window and head; q carries the scale of the scores.
template <class T>
void gather_window(const Windows<T>& w, const HeadTiles& t, const Extra& e, int64_t head) {
  const T* at = w.qkv + head * w.d;
  const auto token = [&](int64_t i) { return e.cells.token[i] < 0 ? int64_t{-1} : e.cells.token[i] * (3 * w.channels); };
  gather_rows(t, at, token, w.scales ? 1.0f : w.scale, t.q);
  gather_rows(t, at + w.channels, token, 1.0f, t.k);
  gather_rows(t, at + 2 * w.channels, token, 1.0f, t.v);
  if (!w.scales) return;
  normalize_rows(t, t.q, e.q_factors);
  normalize_rows(t, t.k, e.k_factors);
  for (int64_t i = 0; i < t.tokens * t.width; i += kLanes) store(t.q + i, load(t.q + i) * w.scales[head]);
}

/// Asks for the lines of one token's row (d values of `parts` tensors, `step` apart): window rows lie too far apart for the
/// processor to foresee them. A few at a time, because only so many can be on their way; what is asked for beyond is forgotten.
template <int WRITE = 0, class T>
SIMMIM_INLINE void prefetch_row(int32_t token, const T* base, int64_t width, int64_t d, int parts, int64_t step) {
  if (token < 0) return;
  const T* row = base + token * width;
  for (int part = 0; part < parts; part++)
    for (int64_t c = 0; c < d; c += static_cast<int64_t>(64 / sizeof(T))) __builtin_prefetch(row + part * step + c, WRITE, 2);
}

/// f(window) for the windows [begin, end) of one head, their cells in e.cells and those of the next one in e.next.
template <class T, class F>
void for_windows(const Windows<T>& w, Extra& e, int64_t rows, int64_t begin, int64_t end, const F& f) {
  if (begin < end) e.next.place(w.g, begin, rows);
  for (int64_t window = begin; window < end; window++) {
    const Cells current = e.next;
    e.next = window + 1 < end ? e.cells : current;
    e.cells = current;
    if (window + 1 < end) e.next.place(w.g, window + 1, rows);
    f(window);
  }
}

/// Groups of windows and heads: the bias is expanded once for each.
template <class T>
void forward(const WindowAttention& k) {
  const Windows<T> w(k);
  const int64_t n = w.g.tokens(), rows = lanes_up(n), windows = w.g.windows(), groups = w.g.groups(k.heads);
  const bool large = k.y.bytes() > kStreamedBytes;
  parallel_for(groups * w.heads, [&](int64_t item) {
    const int64_t head = item % w.heads, group = item / w.heads;
    float* rest;
    const HeadTiles t = HeadTiles::make(n, w.d, false, Extra::floats(n, rows), &rest);
    Extra e = Extra::make(n, rows, rest);
    expand_bias(w, head, rows, e.bias);
    for_windows(w, e, rows, group * windows / groups, (group + 1) * windows / groups, [&](int64_t) {
      gather_window(w, t, e, head);
      int64_t i = 0;
      attend(t, e.terms(rows), [&] {
        if (i == n) return;
        prefetch_row(e.next.token[i], w.qkv + head * w.d, 3 * w.channels, w.d, 3, w.channels);
        if (!large) prefetch_row<1>(e.cells.token[i], k.y.as<T>() + head * w.d, w.channels, w.d, 1, int64_t{0});
        i++;
      });
      scatter_rows(t, t.out, [&](int64_t i) { return e.cells.token[i] < 0 ? int64_t{-1} : e.cells.token[i] * w.channels + head * w.d; }, 1.0f, k.y.as<T>(), large);
    });
    end_streaming();
  });
}

/// Gradients of one window and head; adds to e.dbias and *dscale.
template <class T>
void gradient_of(const WindowAttentionGrad& k, const Windows<T>& w, const HeadTiles& t, const Extra& e, int64_t head, float* dscale) {
  gather_window(w, t, e, head);
  gather_rows(t, k.dy.as<T>(), [&](int64_t i) { return e.cells.token[i] < 0 ? int64_t{-1} : e.cells.token[i] * w.channels + head * w.d; }, 1.0f, t.dout);
  const bool large = k.dqkv.bytes() > kStreamedBytes;
  int64_t asked = 0;
  const auto ahead = [&] {
    if (asked < t.tokens) {
      prefetch_row(e.next.token[asked], w.qkv + head * w.d, 3 * w.channels, w.d, 3, w.channels);
      prefetch_row(e.next.token[asked], k.dy.as<T>() + head * w.d, w.channels, w.d, 1, int64_t{0});
    } else if (asked < 2 * t.tokens && !large) {
      prefetch_row<1>(e.cells.token[asked - t.tokens], k.dqkv.as<T>() + head * w.d, 3 * w.channels, w.d, 3, w.channels);
    }
    asked++;
  };
  attend_gradient(t, e.terms(t.rows), ahead, [&](int64_t i, const float* row) {
    float* at = e.dbias + i * t.rows;
    for (int64_t j = 0; j < t.rows; j += kLanes) store(at + j, load(at + j) + load(row + j));
  });
  float q_factor = w.scale;
  if (w.scales) {
    // q is s n: dn = s dq, and ds = n . dq summed over the window; n itself is q / s.
    const float s = w.scales[head];
    float total = 0;
    for (int64_t i = 0; i < t.tokens; i++) total += row_sum(t.width, [&](int64_t c, int) { return load(t.q + i * t.width + c) * load(t.dq + i * t.width + c); });
    *dscale += total / s;
    for (int64_t i = 0; i < t.tokens * t.width; i += kLanes) {
      store(t.q + i, load(t.q + i) / s);
      store(t.dq + i, load(t.dq + i) * s);
    }
    normalize_gradient(t, t.q, e.q_factors, t.dq);
    normalize_gradient(t, t.k, e.k_factors, t.dk);
    q_factor = 1.0f;
  }
  T* out = k.dqkv.as<T>() + head * w.d;
  const auto token = [&](int64_t i) { return e.cells.token[i] < 0 ? int64_t{-1} : e.cells.token[i] * (3 * w.channels); };
  scatter_rows(t, t.dq, token, q_factor, out, large);
  scatter_rows(t, t.dk, token, 1.0f, out + w.channels, large);
  scatter_rows(t, t.dv, token, 1.0f, out + 2 * w.channels, large);
}

/// Sums the gradient of the bias matrix into the table's entries.
template <class T>
void collect_bias(const Windows<T>& w, int64_t rows, const float* dbias, float* entries) {
  const WindowGeometry& g = w.g;
  for (int64_t x = 0; x < g.entries(); x++) entries[x] = 0;
  for (int64_t yi = 0, i = 0; yi < g.wh; yi++)
    for (int64_t xi = 0; xi < g.ww; xi++, i++) {
      const float* row = dbias + i * rows;
      for (int64_t yj = 0; yj < g.wh; yj++)
        for (int64_t xj = 0; xj < g.ww; xj++) entries[(yi - yj + g.wh - 1) * (2 * g.ww - 1) + xi - xj + g.ww - 1] += *row++;
    }
}

template <class T>
void backward(const WindowAttentionGrad& k) {
  const Windows<T> w(k);
  const int64_t n = w.g.tokens(), rows = lanes_up(n), windows = w.g.windows(), groups = k.groups(), pitch = w.g.entries() + 1;
  float* partial = static_cast<float*>(k.workspace);
  parallel_for(groups * w.heads, [&](int64_t item) {
    const int64_t group = item / w.heads, head = item % w.heads;
    float* rest;
    const HeadTiles t = HeadTiles::make(n, w.d, true, Extra::floats(n, rows), &rest);
    Extra e = Extra::make(n, rows, rest);
    expand_bias(w, head, rows, e.bias);
    for (int64_t i = 0; i < n * rows; i += kLanes) store(e.dbias + i, Vec{});
    float dscale = 0;
    for_windows(w, e, rows, group * windows / groups, (group + 1) * windows / groups, [&](int64_t) {
      gradient_of(k, w, t, e, head, &dscale);
    });
    end_streaming();
    collect_bias(w, rows, e.dbias, partial + item * pitch);
    partial[item * pitch + pitch - 1] = dscale;
  });
  for (int64_t head = 0; head < w.heads; head++)
    for (int64_t x = 0; x < pitch; x++) {
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
