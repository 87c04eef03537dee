// Attention of one head over N tokens that are in cache: scores, softmax and mixing, and the gradient with
// recomputed probabilities. Window attention and global attention gather their tokens into a HeadTiles and
// scatter the results; queries are taken in blocks so that the scores stay in the first level cache.
// Scores are powers of two: q carries log2(e) beside its scale, and so does a padded bias.
#pragma once
#include "gemm_pack.h"
#include "gemm_shared.h"
#include "reduce.h"
#include "small_matmul.h"
#include "stream.h"
#include "vmath.h"

namespace simmim::SIMMIM_ISA {

constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;

SIMMIM_INLINE int64_t lanes_up(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

/// Scratch of one head. Rows are tokens; `rows` and `width` are padded to registers with zeros.
struct HeadTiles {
  int64_t tokens, rows, channels, width;  // N, N padded, d, d padded
  int64_t block;                          // queries at a time
  float *q, *k, *v;                       // [rows, width]; q is scaled, also by log2(e)
  float* k_columns;                       // [width, rows]
  float* scores;                          // [block, rows]
  // Gradient only.
  float *dout;                            // [rows, width], of the block's queries; each divided by its sum of exponentials
  float *dq, *dk, *dv;                    // [rows, width], where they are wanted as tiles or summed over blocks; dv takes the place of v
  float* v_columns;                       // [width, rows]
  float* dscores;                         // [block, rows]

  static constexpr int64_t kBlock = 64;
  static int64_t block_of(int64_t tokens) { return tokens <= kBlock ? tokens : 48; }

  /// Takes this thread's scratch; `extra` floats are left for the caller at *rest.
  static HeadTiles make(int64_t tokens, int64_t channels, bool gradient, int64_t extra, float** rest) {
    HeadTiles t;
    t.tokens = tokens;
    t.rows = lanes_up(tokens);
    t.channels = channels;
    t.width = lanes_up(channels);
    t.block = block_of(tokens);
    const int64_t matrix = t.rows * t.width, strip = t.block * t.rows;
    float* p = gemm_buffer(GemmBuffer::attention, static_cast<size_t>((gradient ? 8 * matrix + 2 * strip : 4 * matrix + strip) + extra));
    const auto take = [&](int64_t n) {
      float* at = p;
      p += n;
      return at;
    };
    t.q = take(matrix);
    t.k = take(matrix);
    t.v = take(matrix);
    t.k_columns = take(matrix);
    t.scores = take(strip);
    t.dout = t.dq = t.dk = t.dv = t.v_columns = t.dscores = nullptr;
    if (gradient) {
      t.dout = take(matrix);
      t.dq = take(matrix);
      t.dk = take(matrix);
      t.dv = t.v;
      t.v_columns = take(matrix);
      t.dscores = take(strip);
    }
    *rest = p;
    return t;
  }
};

/// Copies the rows of tokens [begin, end) into a tile, times factor_of(token); a token of offset -1 and what lies beyond the last become zeros.
template <class T, class OffsetOf, class FactorOf>
SIMMIM_INLINE void gather_rows(const HeadTiles& t, int64_t begin, int64_t end, const T* base, const OffsetOf& offset_of, const FactorOf& factor_of, float* tile) {
  tile += begin * t.width;
  for (int64_t i = begin; i < end; i++, tile += t.width) {
    const int64_t offset = i < t.tokens ? offset_of(i) : -1;
    if (offset < 0) {
      for (int64_t c = 0; c < t.width; c += kLanes) store(tile + c, Vec{});
      continue;
    }
    const float factor = factor_of(i);
    if (t.channels == 4 * kLanes) {  // the usual case without loops
#pragma GCC unroll 4
      for (int c = 0; c < 4 * kLanes; c += kLanes) store(tile + c, load(base + offset + c) * factor);
      continue;
    }
    for_lanes(t.channels, [&](int64_t c, int lanes) { store(tile + c, load_lanes(base + offset + c, lanes) * factor); });
  }
}
/// All rows, by one factor.
template <class T, class OffsetOf>
SIMMIM_INLINE void gather_rows(const HeadTiles& t, const T* base, const OffsetOf& offset_of, float factor, float* tile) {
  gather_rows(t, 0, t.rows, base, offset_of, [factor](int64_t) { return factor; }, tile);
}

/// Where a product leaves its rows (see StoreRows): with their tokens, times a factor each or one for all. A row lies at
/// base + token * pitch; without `token` rows are tokens, and those of token -1 are dropped.
template <class T>
struct TokenRows {
  T* base;
  const int32_t* token;
  int64_t pitch, channels;
  const float* factors;  // or null
  float factor;
  bool streams;  // past the caches, where the lines are whole
  int64_t column = 0;

  static TokenRows make(T* base, const int32_t* token, int64_t pitch, int64_t channels, const float* factors, float factor, bool large) {
    bool streams = false;
    if constexpr (sizeof(T) == 4) streams = large && can_stream(base, channels) && pitch % 16 == 0;
    return {base, token, pitch, channels, factors, factor, streams};
  }
  SIMMIM_INLINE TokenRows at(int64_t i, int64_t j) const {
    TokenRows r = *this;
    if (token) r.token += i;
    else r.base += i * pitch;
    if (factors) r.factors += i;
    r.column += j * kLanes;
    return r;
  }
  /// Not inlined: the many tiles of a product would hold as many copies.
  __attribute__((noinline)) static void store_converted(T* to, const Vec* v, int registers, int64_t channels, float f) {
    for (int j = 0; j < registers; j++, channels -= kLanes) store_lanes(to + j * kLanes, v[j] * f, static_cast<int>(channels < kLanes ? channels : kLanes));
  }
  template <int NV>
  SIMMIM_INLINE void row(int64_t i, const Vec (&v)[NV]) const {
    const int64_t place = token ? token[i] : i;
    if (place < 0) return;
    const float f = factors ? factors[i] : factor;
    T* to = base + place * pitch + column;
    if constexpr (sizeof(T) != 4) return store_converted(to, v, NV, channels - column, f);
    if (column + NV * kLanes > channels) {
#pragma GCC unroll 4
      for (int j = 0; j < NV; j++) {
        const int64_t left = channels - column - j * kLanes;
        store_lanes(to + j * kLanes, v[j] * f, static_cast<int>(left < kLanes ? left : kLanes));
      }
      return;
    }
    if constexpr (sizeof(T) == 4 && NV * kLanes % 16 == 0) {
      if (streams) {
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++) stream(to + j * kLanes, v[j] * f);
        return;
      }
    }
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) store(to + j * kLanes, v[j] * f);
  }
};

/// Copies a tile's rows to where a product could have left them.
template <class T>
SIMMIM_INLINE void scatter_rows(const HeadTiles& t, const float* tile, const TokenRows<T>& to) {
  for (int64_t i = 0; i < t.tokens; i++)
    for (int64_t c = 0; c < t.width; c += 2 * kLanes) {
      if (c + kLanes < t.width) to.at(0, c / kLanes).row(i, {load(tile + i * t.width + c), load(tile + i * t.width + c + kLanes)});
      else to.at(0, c / kLanes).row(i, {load(tile + i * t.width + c)});
    }
}

/// columns[width, rows] = the transposed tile.
static void transpose_tile(const HeadTiles& t, const float* tile, float* columns) {
  for (int64_t c = 0; c < t.width; c += kLanes)
    for (int64_t i = 0; i < t.rows; i += kLanes) {
      Vec r[kLanes];
      load_transposed<Source::f32, kLanes>(reinterpret_cast<const char*>(tile + i * t.width + c), t.width * 4, kLanes, r);
#pragma GCC unroll 16
      for (int x = 0; x < kLanes; x++) store(columns + (c + x) * t.rows + i, r[x]);
    }
}

/// columns[width, rows] = the transposed rows of all tokens, as gather_rows has them; `tile` is scratch for what is not whole registers.
template <class T, class OffsetOf>
SIMMIM_INLINE void gather_columns(const HeadTiles& t, const T* base, const OffsetOf& offset_of, float* tile, float* columns) {
  if (t.channels % kLanes != 0) {
    gather_rows(t, base, offset_of, 1.0f, tile);
    transpose_tile(t, tile, columns);
    return;
  }
  alignas(64) static const T nothing[kLanes] = {};
  for (int64_t i = 0; i < t.rows; i += kLanes) {
    const char* row[kLanes];
    int64_t step[kLanes];  // bytes to the next registers of the row: none where there is no token
    for (int x = 0; x < kLanes; x++) {
      const int64_t offset = i + x < t.tokens ? offset_of(i + x) : -1;
      row[x] = reinterpret_cast<const char*>(offset < 0 ? nothing : base + offset);
      step[x] = offset < 0 ? 0 : kLanes * sizeof(T);
    }
    for (int64_t c = 0; c < t.width; c += kLanes) {
      Vec r[kLanes];
      load_transposed_rows<sizeof(T) == 4 ? Source::f32 : Source::bf16_widened, kLanes>([&](int x) { return row[x]; }, kLanes, r);
#pragma GCC unroll 16
      for (int x = 0; x < kLanes; x++) {
        store(columns + (c + x) * t.rows + i, r[x]);
        row[x] += step[x];
      }
    }
  }
}

/// What is added to the scores of N queries and keys: `bias` [N, pitch] or null (`padded`: times log2(e), and its rows are whole
/// registers, -infinity beyond N), and, where `region` [rows] is given, -100 between tokens of different regions; region -1 is
/// padding: such keys get no weight, such queries no keys.
struct ScoreTerms {
  const float* bias;
  int64_t pitch;
  bool padded;
  const int32_t* region;
};

SIMMIM_INLINE Vec region_term(IVec keys, int32_t own) { return select(keys < 0, splat(-kInfinity), select(keys == own, Vec{}, splat(-100.0f * kLog2E))); }

/// One register of partial results for each row of a block; fold() joins the lanes of every row, many rows at a time: one by one
/// a row would wait for each of its few steps.
struct RowFolds {
  float partial[HeadTiles::kBlock * kLanes];
  float result[HeadTiles::kBlock];

  SIMMIM_INLINE void put(int64_t row, Vec v) { store(partial + row * kLanes, v); }
  template <class Join>
  SIMMIM_INLINE void fold(int64_t rows, const Join& join) {
    for (int64_t i = rows; i % kLanes != 0; i++) put(i, Vec{});
    for (int64_t i = 0; i < rows; i += kLanes) {
      Vec r[kLanes];
      load_transposed<Source::f32, kLanes>(reinterpret_cast<const char*>(partial + i * kLanes), kLanes * 4, kLanes, r);
#pragma GCC unroll 4
      for (int half = kLanes / 2; half > 0; half /= 2)
#pragma GCC unroll 8
        for (int x = 0; x < half; x++) r[x] = join(r[x], r[x + half]);
      store(result + i, r[0]);
    }
  }
};

/// REGISTERS registers of scores become exp2(score - top); returns their sum.
template <int REGISTERS>
SIMMIM_INLINE Vec exponentials(float* s, Vec top) {
  Vec v[REGISTERS];
  for (int r = 0; r < REGISTERS; r++) v[r] = load(s + r * kLanes) - top;
  exp2_nonpositive(v);
  for (int r = 0; r < REGISTERS; r++) store(s + r * kLanes, v[r]);
  for (int r = 1; r < REGISTERS; r++) v[0] += v[r];
  return v[0];
}
SIMMIM_INLINE Vec exponentials(float* s, int64_t n, Vec top) {
  Vec total{};
  for (; n >= 8 * kLanes || n == 4 * kLanes; n -= 4 * kLanes, s += 4 * kLanes) total += exponentials<4>(s, top);
  switch (n / kLanes) {
    case 1: return total + exponentials<1>(s, top);
    case 2: return total + exponentials<2>(s, top);
    case 3: return total + exponentials<3>(s, top);
    case 5: return total + exponentials<5>(s, top);
    case 6: return total + exponentials<3>(s, top) + exponentials<3>(s + 3 * kLanes, top);
    case 7: return total + exponentials<4>(s, top) + exponentials<3>(s + 4 * kLanes, top);
  }
  return total;
}

/// Adds what the scores of query i still lack; beyond the last key they become -infinity. Returns the highest of each lane.
template <bool masked>
SIMMIM_INLINE Vec finish_scores(const HeadTiles& t, const ScoreTerms& terms, int64_t i, float* s) {
  Vec top = splat(-kInfinity);
  const int32_t own = masked ? terms.region[i] : 0;
  if (terms.padded) {
    for (int64_t j = 0; j < t.rows; j += kLanes) {
      Vec v = load(s + j);
      if constexpr (masked) {
        v += region_term(load(terms.region + j), own);
        store(s + j, v);
      }
      top = max(top, v);
    }
    return top;
  }
  const float* bias = terms.bias ? terms.bias + i * terms.pitch : nullptr;
  for_lanes(t.tokens, [&](int64_t j, int lanes) {
    Vec v = load_lanes(s + j, lanes, -kInfinity);
    if (bias) v = fma(load_lanes(bias + j, lanes), splat(kLog2E), v);
    if constexpr (masked) v += region_term(load(terms.region + j), own);
    store(s + j, v);
    top = max(top, v);
  });
  return top;
}

/// scores[n, rows] = from (or nothing) + rows [n, d] times columns [d, N]; what lies beyond N is that of `from`, or zero.
template <class Ahead>
SIMMIM_INLINE void score_products(const HeadTiles& t, int64_t n, const float* rows, const float* columns, const float* from, int64_t ldfrom, float* scores, const Ahead& ahead) {
  if (kHalves && t.rows - t.tokens >= kLanes / 2) small_matmul<false, true>(n, t.rows / kLanes, t.channels, rows, t.width, columns, t.rows, from, ldfrom, scores, t.rows, ahead);
  else small_matmul<false>(n, t.rows / kLanes, t.channels, rows, t.width, columns, t.rows, from, ldfrom, scores, t.rows, ahead);
}

/// For queries [begin, end): t.scores = exp(score - highest of the row), inverse[i] = 1 / the row's sum, 0 for padding.
template <class Ahead>
SIMMIM_INLINE void exponentials_of(const HeadTiles& t, int64_t begin, int64_t end, const ScoreTerms& terms, float* inverse, const Ahead& ahead) {
  const int64_t n = end - begin;
  const float* bias = terms.padded ? terms.bias + begin * terms.pitch : nullptr;
  score_products(t, n, t.q + begin * t.width, t.k_columns, bias, terms.pitch, t.scores, ahead);
  RowFolds tops, sums;
  for (int64_t i = 0; i < n; i++) {
    float* row = t.scores + i * t.rows;
    tops.put(i, terms.region ? finish_scores<true>(t, terms, begin + i, row) : finish_scores<false>(t, terms, begin + i, row));
  }
  tops.fold(n, [](Vec a, Vec b) { return max(a, b); });
  for (int64_t i = 0; i < n; i++) {
    if (i % 4 == 0) ahead();  // four rows take as long as a tile
    sums.put(i, exponentials(t.scores + i * t.rows, t.rows, splat(tops.result[i])));
  }
  sums.fold(n, [](Vec a, Vec b) { return a + b; });
  for (int64_t i = 0; i < n; i++) inverse[i] = terms.region && terms.region[begin + i] < 0 ? 0.0f : 1.0f / sums.result[i];
}

/// Attention of q, k_columns and v, each row yet to be multiplied by its inverse[] (fewer numbers than the probabilities): put_of(begin, inverse)
/// says where those of a block go. ahead() is small_matmul's meanwhile().
template <class Ahead, class PutOf>
SIMMIM_INLINE void attend(const HeadTiles& t, const ScoreTerms& terms, const Ahead& ahead, const PutOf& put_of) {
  float inverse[HeadTiles::kBlock];
  for (int64_t begin = 0; begin < t.tokens; begin += t.block) {
    const int64_t end = begin + t.block < t.tokens ? begin + t.block : t.tokens;
    exponentials_of(t, begin, end, terms, inverse, ahead);
    small_matmul_to<false>(end - begin, t.width / kLanes, t.tokens, t.scores, t.rows, t.v, t.width, nullptr, 0, put_of(begin, inverse), ahead);
  }
}

/// dS = P (dP - sum over j of P dP) for ROWS rows of n values, in place of dP. Given are the exponentials and their inverse sums in
/// place of P, and dP times the inverse sums. observe(i, j, ds) sees row i, a register from j on.
template <int ROWS, class Observe>
SIMMIM_INLINE void softmax_gradient_rows(const float* e, float* dp, int64_t n, const float* inverse, const Observe& observe) {
  Vec dots[ROWS];
#pragma GCC unroll 4
  for (int i = 0; i < ROWS; i++) {
    dots[i] = Vec{};
    for (int64_t j = 0; j < n; j += kLanes) dots[i] = fma(load(e + i * n + j), load(dp + i * n + j), dots[i]);
  }
  float dot[ROWS];
#pragma GCC unroll 4
  for (int i = 0; i < ROWS; i++) dot[i] = sum(dots[i]) * inverse[i];
#pragma GCC unroll 4
  for (int i = 0; i < ROWS; i++)
    for (int64_t j = 0; j < n; j += kLanes) {
      const Vec ds = load(e + i * n + j) * (load(dp + i * n + j) - dot[i]);
      store(dp + i * n + j, ds);
      observe(i, j, ds);
    }
}
/// For the first n rows of t.scores and t.dscores.
template <class Observe>
SIMMIM_INLINE void softmax_gradient(const HeadTiles& t, int64_t n, const float* inverse, const Observe& observe) {
  int64_t i = 0;
  const auto observe_rows = [&](int row, int64_t j, Vec ds) { observe(i + row, j, ds); };
  for (; i + 4 <= n; i += 4) softmax_gradient_rows<4>(t.scores + i * t.rows, t.dscores + i * t.rows, t.rows, inverse + i, observe_rows);
  for (; i < n; i++) softmax_gradient_rows<1>(t.scores + i * t.rows, t.dscores + i * t.rows, t.rows, inverse + i, observe_rows);
}

/// Where the gradients of q, k and v go.
template <class QK, class V>
struct GradientRows {
  QK q, k;
  V v;
};

/// sums[tokens, width] += A[n, tokens] transposed times rows [n, width]; the first block sets them, the last one leaves them with `put`.
template <class Put, class Ahead>
SIMMIM_INLINE void sum_over_queries(const HeadTiles& t, bool first, bool last, int64_t n, const float* a, const float* rows, float* sums, const Put& put, const Ahead& ahead) {
  const float* from = first ? nullptr : sums;
  if (last) small_matmul_to<true>(t.tokens, t.width / kLanes, n, a, t.rows, rows, t.width, from, t.width, put, ahead);
  else small_matmul<true>(t.tokens, t.width / kLanes, n, a, t.rows, rows, t.width, from, t.width, sums, t.width, ahead);
}

/// dq, dk / log2(e) and dv from the scaled q, k and the columns of both k and v. gather_dout(begin, end, inverse) puts the queries' rows of dout, times inverse[], into t.dout;
/// observe(i, j, ds) sees the gradient of the scores of query i, a register from key j on.
template <class Ahead, class GatherDout, class Observe, class Puts>
SIMMIM_INLINE void attend_gradient(const HeadTiles& t, const ScoreTerms& terms, const Ahead& ahead, const GatherDout& gather_dout, const Observe& observe, const Puts& put) {
  float inverse[HeadTiles::kBlock];
  for (int64_t begin = 0; begin < t.tokens; begin += t.block) {
    const int64_t end = begin + t.block < t.tokens ? begin + t.block : t.tokens, n = end - begin;
    const float *q = t.q + begin * t.width, *dout = t.dout + begin * t.width;
    const bool first = begin == 0, last = end == t.tokens;
    exponentials_of(t, begin, end, terms, inverse, ahead);
    gather_dout(begin, end, inverse);
    score_products(t, n, dout, t.v_columns, nullptr, 0, t.dscores, ahead);
    sum_over_queries(t, first, last, n, t.scores, dout, t.dv, put.v, ahead);
    softmax_gradient(t, n, inverse, [&](int64_t i, int64_t j, Vec ds) { observe(begin + i, j, ds); });
    small_matmul_to<false>(n, t.width / kLanes, t.tokens, t.dscores, t.rows, t.k, t.width, nullptr, 0, put.q.at(begin, 0), ahead);
    sum_over_queries(t, first, last, n, t.dscores, q, t.dk, put.k, ahead);
  }
}

}  // namespace simmim::SIMMIM_ISA
