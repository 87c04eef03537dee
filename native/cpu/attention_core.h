// Attention of one head over N tokens that are in cache: scores, softmax and mixing, and the gradient with
// recomputed probabilities. Window attention and global attention gather their tokens into a HeadTiles and
// scatter the results; queries are taken in blocks so that the scores stay in the first level cache.
#pragma once
#include "gemm_pack.h"
#include "gemm_shared.h"
#include "reduce.h"
#include "small_matmul.h"
#include "stream.h"
#include "vmath.h"

namespace simmim::SIMMIM_ISA {

SIMMIM_INLINE int64_t lanes_up(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

/// Scratch of one head. Rows are tokens; `rows` and `width` are padded to registers with zeros.
struct HeadTiles {
  int64_t tokens, rows, channels, width;  // N, N padded, d, d padded
  int64_t block;                          // queries at a time
  float *q, *k, *v;                       // [rows, width]; q is scaled
  float* k_columns;                       // [width, rows]
  float* scores;                          // [block, rows]
  float* out;                             // [rows, width]
  // Gradient only.
  float *dout, *dq, *dk, *dv;             // [rows, width]
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
    float* p = gemm_buffer(GemmBuffer::attention, static_cast<size_t>((gradient ? 10 * matrix + 2 * strip : 5 * matrix + strip) + extra));
    const auto take = [&](int64_t n) {
      float* at = p;
      p += n;
      return at;
    };
    t.q = take(matrix);
    t.k = take(matrix);
    t.v = take(matrix);
    t.k_columns = take(matrix);
    t.out = take(matrix);
    t.scores = take(strip);
    t.dout = t.dq = t.dk = t.dv = t.v_columns = t.dscores = nullptr;
    if (gradient) {
      t.dout = take(matrix);
      t.dq = take(matrix);
      t.dk = take(matrix);
      t.dv = take(matrix);
      t.v_columns = take(matrix);
      t.dscores = take(strip);
    }
    *rest = p;
    return t;
  }
};

/// Copies token rows into a tile, times `factor`; a token of offset -1 and the padding become zeros.
template <class T, class OffsetOf>
SIMMIM_INLINE void gather_rows(const HeadTiles& t, const T* base, const OffsetOf& offset_of, float factor, float* tile) {
  for (int64_t i = 0; i < t.rows; i++, tile += t.width) {
    const int64_t offset = i < t.tokens ? offset_of(i) : -1;
    if (offset < 0) {
      for (int64_t c = 0; c < t.width; c += kLanes) store(tile + c, Vec{});
      continue;
    }
    for_lanes(t.channels, [&](int64_t c, int lanes) { store(tile + c, load_lanes(base + offset + c, lanes) * factor); });
  }
}

/// Copies tile rows back to their tokens; rows of offset -1 are dropped. `large`: stream where the lines are whole.
template <class T, class OffsetOf>
SIMMIM_INLINE void scatter_rows(const HeadTiles& t, const float* tile, const OffsetOf& offset_of, float factor, T* base, bool large = false) {
  for (int64_t i = 0; i < t.tokens; i++, tile += t.width) {
    const int64_t offset = offset_of(i);
    if (offset < 0) continue;
    if constexpr (sizeof(T) == 4) {
      if (large && can_stream(base + offset, t.channels)) {
        for (int64_t c = 0; c < t.channels; c += kLanes) stream(base + offset + c, load(tile + c) * factor);
        continue;
      }
    }
    for_lanes(t.channels, [&](int64_t c, int lanes) { store_lanes(base + offset + c, load(tile + c) * factor, lanes); });
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

/// What is added to the scores of N queries and keys: `bias` [N, pitch] or null (`padded`: its rows are whole registers, -infinity
/// beyond N), and, where `region` [rows] is given, -100 between tokens of different regions; region -1 is padding: such
/// keys get no weight, such queries no keys.
struct ScoreTerms {
  const float* bias;
  int64_t pitch;
  bool padded;
  const int32_t* region;
};

SIMMIM_INLINE float highest_lane(Vec v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(v);
#elif defined(__AVX2__)
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
#else
  return max_lane(v);
#endif
}

/// A row of n scores plus its terms becomes exp(score - highest), zeros up to a register; returns the sum.
template <bool masked>
SIMMIM_INLINE float exponentials(float* s, int64_t n, const float* bias, const int32_t* region, int32_t own) {
  Vec top = splat(-kInfinity);
  for_lanes(n, [&](int64_t j, int lanes) {
    Vec v = load_lanes(s + j, lanes, -kInfinity);
    if (bias) v += load_lanes(bias + j, lanes);
    if constexpr (masked) {
      const IVec keys = load(region + j);
      v += select(keys < 0, splat(-kInfinity), select(keys == own, Vec{}, splat(-100.0f)));
    }
    store(s + j, v);
    top = max(top, v);
  });
  constexpr float log2e = 1.44269504088896341f;
  const Vec shift = splat(-log2e * highest_lane(top));
  Vec total{};
  for (int64_t j = 0; j < n; j += kLanes) {
    const Vec e = exp2_nonpositive(fma(load(s + j), splat(log2e), shift));
    total += e;
    store(s + j, e);
  }
  return sum(total);
}

/// The same for a row of REGISTERS whole registers with its bias, which is -infinity beyond the row's end.
template <bool masked, int REGISTERS>
SIMMIM_INLINE float exponentials_of_row(float* s, const float* bias, const int32_t* region, int32_t own) {
  Vec v[REGISTERS];
  for (int r = 0; r < REGISTERS; r++) {
    v[r] = load(s + r * kLanes) + load(bias + r * kLanes);
    if constexpr (masked) {
      const IVec keys = load(region + r * kLanes);
      v[r] += select(keys < 0, splat(-kInfinity), select(keys == own, Vec{}, splat(-100.0f)));
    }
  }
  Vec top = v[0];
  for (int r = 1; r < REGISTERS; r++) top = max(top, v[r]);
  constexpr float log2e = 1.44269504088896341f;
  const Vec shift = splat(-log2e * highest_lane(top));
  for (int r = 0; r < REGISTERS; r++) v[r] = fma(v[r], splat(log2e), shift);
  exp2_nonpositive(v);
  Vec total = v[0];
  for (int r = 0; r < REGISTERS; r++) store(s + r * kLanes, v[r]);
  for (int r = 1; r < REGISTERS; r++) total += v[r];
  return sum(total);
}

/// The exponentials of query i's row, by whichever of the two fits it.
template <bool masked>
SIMMIM_INLINE float exponentials_of_row(const HeadTiles& t, const ScoreTerms& terms, int64_t i, float* s) {
  const float* bias = terms.bias ? terms.bias + i * terms.pitch : nullptr;
  const int32_t own = masked ? terms.region[i] : 0;
  if (bias && terms.padded) switch (t.rows / kLanes) {
      case 1: return exponentials_of_row<masked, 1>(s, bias, terms.region, own);
      case 2: return exponentials_of_row<masked, 2>(s, bias, terms.region, own);
      case 3: return exponentials_of_row<masked, 3>(s, bias, terms.region, own);
      case 4: return exponentials_of_row<masked, 4>(s, bias, terms.region, own);
      case 5: return exponentials_of_row<masked, 5>(s, bias, terms.region, own);
      case 6: return exponentials_of_row<masked, 6>(s, bias, terms.region, own);
      case 7: return exponentials_of_row<masked, 7>(s, bias, terms.region, own);
    }
  return exponentials<masked>(s, t.tokens, bias, terms.region, own);
}

/// For queries [begin, end): t.scores = exp(score - highest of the row), inverse[i] = 1 / the row's sum, 0 for padding.
template <class Ahead>
SIMMIM_INLINE void exponentials_of(const HeadTiles& t, int64_t begin, int64_t end, const ScoreTerms& terms, float* inverse, const Ahead& ahead) {
  small_matmul<false>(end - begin, t.rows / kLanes, t.channels, t.q + begin * t.width, t.width, t.k_columns, t.rows, t.scores, t.rows, false, ahead);
  for (int64_t i = begin; i < end; i++) {
    if (i % 4 == 0) ahead();  // four rows take as long as a tile
    float* row = t.scores + (i - begin) * t.rows;
    const float total = terms.region ? exponentials_of_row<true>(t, terms, i, row) : exponentials_of_row<false>(t, terms, i, row);
    inverse[i - begin] = terms.region && terms.region[i] < 0 ? 0.0f : 1.0f / total;
  }
}

/// rows [n, width] *= factor of each row
SIMMIM_INLINE void scale_rows(float* rows, int64_t n, int64_t width, const float* factors) {
  for (int64_t i = 0; i < n; i++, rows += width)
    for (int64_t j = 0; j < width; j += kLanes) store(rows + j, load(rows + j) * factors[i]);
}

/// t.out from q, k, v; ahead() is small_matmul's meanwhile(). The sums of the rows divide the result instead of the probabilities: fewer numbers.
template <class Ahead>
SIMMIM_INLINE void attend(const HeadTiles& t, const ScoreTerms& terms, const Ahead& ahead) {
  float inverse[HeadTiles::kBlock];
  transpose_tile(t, t.k, t.k_columns);
  for (int64_t begin = 0; begin < t.tokens; begin += t.block) {
    const int64_t end = begin + t.block < t.tokens ? begin + t.block : t.tokens;
    exponentials_of(t, begin, end, terms, inverse, ahead);
    small_matmul<false>(end - begin, t.width / kLanes, t.tokens, t.scores, t.rows, t.v, t.width, t.out + begin * t.width, t.width, false, ahead);
    scale_rows(t.out + begin * t.width, end - begin, t.width, inverse);
  }
}

/// dS = P (dP - sum over j of P dP), in place of dP.
static void softmax_gradient_row(const float* p, float* dp, int64_t rows) {
  const float dot = row_sum(rows, [&](int64_t j, int lanes) { return load_lanes(p + j, lanes) * load_lanes(dp + j, lanes); });
  for (int64_t j = 0; j < rows; j += kLanes) store(dp + j, load(p + j) * (load(dp + j) - dot));
}

/// dq (for the scaled q), dk, dv from dout; observe(i, row) sees the gradient of the scores of query i.
template <class Ahead, class Observe>
SIMMIM_INLINE void attend_gradient(const HeadTiles& t, const ScoreTerms& terms, const Ahead& ahead, const Observe& observe) {
  float inverse[HeadTiles::kBlock];
  transpose_tile(t, t.k, t.k_columns);
  transpose_tile(t, t.v, t.v_columns);
  const int64_t width = t.width / kLanes;
  for (int64_t begin = 0; begin < t.tokens; begin += t.block) {
    const int64_t end = begin + t.block < t.tokens ? begin + t.block : t.tokens, n = end - begin;
    const float *q = t.q + begin * t.width, *dout = t.dout + begin * t.width;
    exponentials_of(t, begin, end, terms, inverse, ahead);
    scale_rows(t.scores, n, t.rows, inverse);
    small_matmul<false>(n, t.rows / kLanes, t.channels, dout, t.width, t.v_columns, t.rows, t.dscores, t.rows, false, ahead);
    small_matmul<true>(t.tokens, width, n, t.scores, t.rows, dout, t.width, t.dv, t.width, begin > 0, ahead);
    for (int64_t i = 0; i < n; i++) {
      softmax_gradient_row(t.scores + i * t.rows, t.dscores + i * t.rows, t.rows);
      observe(begin + i, t.dscores + i * t.rows);
    }
    small_matmul<false>(n, width, t.tokens, t.dscores, t.rows, t.k, t.width, t.dq + begin * t.width, t.width, false, ahead);
    small_matmul<true>(t.tokens, width, n, t.dscores, t.rows, q, t.width, t.dk, t.width, begin > 0, ahead);
  }
}

}  // namespace simmim::SIMMIM_ISA
