// Attention in bf16 on the tensor cores: one block for each (group of instances, head), a whole instance and the head's table of
// biases in shared memory, 16 queries for each warp. Scores stay in registers, all of a row where it fits (kChunk x 16 keys), otherwise chunk by chunk and
// made again when they are needed: no online sums. The gradient puts the probabilities, then the gradients of the scores,
// rounded to bf16, once through shared memory, where the warps that sum over queries read them.
#pragma once
#include "attention_map.cuh"
#include "../cuda/launch.cuh"
#include "../cuda/mma.cuh"
#include "../cuda/reduce.cuh"

namespace simmim::cuda {

using TileTensors = HeadTensors<uint16_t>;

/// Extents of one instance in shared memory: rows in whole tiles of 16, channels in whole runs of 32, rows apart by 16 bytes more
/// so that the eight rows of a fragment lie in different banks.
struct TileShape {
  int n, d, biases;
  SIMMIM_INLINE int warps() const { return (n + 15) / 16; }
  SIMMIM_INLINE int rows() const { return warps() * 16; }
  SIMMIM_INLINE int width() const { return (d + 31) / 32 * 32; }
  SIMMIM_INLINE int step() const { return width() + 8; }
  SIMMIM_INLINE int score_step() const { return rows() + 8; }
  SIMMIM_INLINE size_t bytes(bool gradient) const {
    const size_t r = static_cast<size_t>(rows());
    return r * (sizeof(Cell) + 8) + static_cast<size_t>(biases) * sizeof(float) + r * static_cast<size_t>(step()) * 2 * (gradient ? 4 : 3) + (gradient ? r * static_cast<size_t>(score_step()) * 2 : 0);
  }
};

template <class Map>
TileShape tile_shape(const Map& map, const TileTensors& t) {
  return {static_cast<int>(map.tokens()), static_cast<int>(t.d), static_cast<int>(map.head_biases())};
}

/// One instance and head in shared memory.
struct Tiles {
  TileShape shape;
  Cell* cells;                          // [rows]
  float *query_factors, *key_factors;   // [rows]: scores are factors times products
  uint16_t* parts[4];                   // q, k, v, dy: [rows, step], one behind the other
  uint16_t* scores;                     // [rows, score_step]
  float* biases;                        // of the head, as the map has them

  SIMMIM_DEVICE Tiles(const TileShape& shape, bool gradient) : shape(shape) {
    cells = shared_memory<Cell>();
    query_factors = reinterpret_cast<float*>(cells + shape.rows());
    key_factors = query_factors + shape.rows();
    parts[0] = reinterpret_cast<uint16_t*>(key_factors + shape.rows());
    for (int i = 1; i < 4; i++) parts[i] = parts[i - 1] + shape.rows() * shape.step();
    uint16_t* const behind = parts[gradient ? 3 : 2] + shape.rows() * shape.step();
    scores = gradient ? behind : nullptr;
    biases = reinterpret_cast<float*>(behind + (gradient ? shape.rows() * shape.score_step() : 0));
  }

  /// Before the first instance, whose loading has barriers.
  template <class Map>
  SIMMIM_DEVICE void load_biases(const Map& map, int64_t head) {
    for (int i = static_cast<int>(threadIdx.x); i < shape.biases; i += static_cast<int>(blockDim.x)) biases[i] = map.head_bias(head, i);
  }

  template <class Map>
  SIMMIM_DEVICE void load(const Map& map, const TileTensors& t, int64_t instance, int64_t head) {
    const int threads = static_cast<int>(blockDim.x), rows = shape.rows(), runs = shape.width() / 8, thread = static_cast<int>(threadIdx.x);
    for (int i = thread; i < rows; i += threads) cells[i] = i < shape.n ? map.cell(instance, i) : Cell{-1, -1, 0};
    __syncthreads();
    for (int item = thread; item < (t.dy ? 4 : 3) * rows * runs; item += threads) {
      const int part = item / (rows * runs), i = item / runs % rows, c = item % runs * 8;
      uint4 values = make_uint4(0, 0, 0, 0);
      if (cells[i].token >= 0 && c < shape.d) values = *as_vector<const uint4>((part < 3 ? t.qkv + t.part(cells[i], head, part) : t.dy + t.mixed(cells[i], head)) + c);
      *as_vector<uint4>(parts[0] + (part * rows + i) * shape.step() + c) = values;
    }
    __syncthreads();
    for (int item = thread; item < 2 * rows; item += threads) {
      const int part = item / rows, i = item % rows;
      float factor = part == 0 ? t.scale : 1.0f;
      if (t.scales) {
        float squares = 0;
        for (int c = 0; c < shape.d; c++) {
          const float v = bf16_to_float(parts[0][item * shape.step() + c]);
          squares = fmaf(v, v, squares);
        }
        factor = 1.0f / sqrtf(squares > 1e-24f ? squares : 1e-24f);
        if (part == 0) factor *= t.scales[head];
      }
      (part == 0 ? query_factors : key_factors)[i] = factor;
    }
    __syncthreads();
  }
};

SIMMIM_DEVICE void store_pair(uint16_t* to, float a, float b) { *as_vector<uint32_t>(to) = bf16_pair(a, b); }

/// What a warp's 16 rows have in common: two of them for each lane.
struct RowPair {
  float v[2];
};
/// Reduces over the four lanes that share a row.
template <class J>
SIMMIM_DEVICE float quad_reduce(float v, const J& join) {
  v = join(v, __shfl_xor_sync(kAllLanes, v, 1));
  return join(v, __shfl_xor_sync(kAllLanes, v, 2));
}

/// 16 rows times kChunk x 16 columns in registers.
template <int kChunk>
struct Scores {
  float v[2 * kChunk][4];

  /// = rows [r0, r0 + 16) of `left` times rows [first, first + 16 kChunk) of `right`, transposed.
  SIMMIM_DEVICE void multiply(const TileShape& shape, const uint16_t* left, int r0, const uint16_t* right, int first) {
    SIMMIM_UNROLL
    for (int j = 0; j < 2 * kChunk; j++)
      for (int e = 0; e < 4; e++) v[j][e] = 0;
    for (int c = 0; c < shape.width(); c += 16) {
      uint32_t a[4], b[2];
      load_a_16x16(a, left + r0 * shape.step() + c, shape.step());
      SIMMIM_UNROLL
      for (int j = 0; j < 2 * kChunk; j++) {
        if (first + 8 * j >= shape.rows()) break;
        load_b_transposed(b, right + (first + 8 * j) * shape.step() + c, shape.step());
        multiply_16x8x16(v[j], a, b);
      }
    }
  }
  /// f(value, row, column, which of the lane's two rows).
  template <class F>
  SIMMIM_DEVICE void each(int r0, int first, const F& f) {
    SIMMIM_UNROLL
    for (int j = 0; j < 2 * kChunk; j++)
      SIMMIM_UNROLL
      for (int e = 0; e < 4; e++) f(v[j][e], r0 + fragment_row(e), first + 8 * j + fragment_column(e), e / 2);
  }
  /// Columns [16 k, 16 k + 16) as a left operand.
  SIMMIM_DEVICE void operand(uint32_t (&a)[4], int k) const {
    for (int i = 0; i < 4; i++) a[i] = bf16_pair(v[2 * k + i / 2][i % 2 * 2], v[2 * k + i / 2][i % 2 * 2 + 1]);
  }
  /// Rounded into the rows r0 ... of the shared scores.
  SIMMIM_DEVICE void put(const Tiles& tiles, int r0, int first) const {
    SIMMIM_UNROLL
    for (int j = 0; j < 2 * kChunk; j++) {
      if (first + 8 * j >= tiles.shape.rows()) break;
      for (int half = 0; half < 2; half++)
        store_pair(tiles.scores + (r0 + fragment_row(2 * half)) * tiles.shape.score_step() + first + 8 * j + fragment_column(0), v[j][2 * half], v[j][2 * half + 1]);
    }
  }
};

/// The rows of one warp: their scores and probabilities. Blocks of up to kWarps warps.
template <int kChunk, int kWarps, class Map>
struct WarpRows {
  static constexpr bool kWhole = kWarps <= kChunk;  // all scores of a row in registers; the code of several chunks is not made
  const Map& map;
  const Tiles& tiles;
  int64_t head;
  int r0;
  RowPair peak, scale;  // maximum and 1 / sum of exponentials; 0 for rows in the padding

  SIMMIM_DEVICE void scores(Scores<kChunk>& s, int first) const {
    s.multiply(tiles.shape, tiles.parts[0], r0, tiles.parts[1], first);
    s.each(r0, first, [&](float& v, int row, int column, int) {
      const bool there = column < tiles.shape.rows() && tiles.cells[column < tiles.shape.rows() ? column : 0].token >= 0;
      v = there ? v * tiles.query_factors[row] * tiles.key_factors[column] + map.added(tiles.biases, head, tiles.cells[row], tiles.cells[column]) : -__builtin_inff();
    });
  }
  /// Leaves the scores of the last chunk in `s`.
  SIMMIM_DEVICE void measure(Scores<kChunk>& s) {
    RowPair sum{{0, 0}};
    peak = {{-__builtin_inff(), -__builtin_inff()}};
    for (int first = 0; first < end(); first += 16 * kChunk) {
      scores(s, first);
      RowPair top = peak, part{{0, 0}};
      s.each(r0, first, [&](float& v, int, int, int half) { top.v[half] = fmaxf(top.v[half], v); });
      for (int half = 0; half < 2; half++) top.v[half] = quad_reduce(top.v[half], Max{});
      s.each(r0, first, [&](float& v, int, int, int half) { part.v[half] += v == -__builtin_inff() ? 0.0f : __expf(v - top.v[half]); });
      for (int half = 0; half < 2; half++) {
        const float before = peak.v[half] == -__builtin_inff() ? 0.0f : sum.v[half] * __expf(peak.v[half] - top.v[half]);
        sum.v[half] = before + quad_reduce(part.v[half], Sum{});
      }
      peak = top;
    }
    for (int half = 0; half < 2; half++) scale.v[half] = tiles.cells[r0 + fragment_row(2 * half)].token >= 0 ? 1.0f / sum.v[half] : 0.0f;
  }
  /// Scores to probabilities.
  SIMMIM_DEVICE void normalise(Scores<kChunk>& s) const {
    s.each(r0, 0, [&](float& v, int, int, int half) { v = v == -__builtin_inff() ? 0.0f : __expf(v - peak.v[half]) * scale.v[half]; });
  }
  SIMMIM_DEVICE bool one_chunk() const { return kWhole || tiles.shape.rows() <= 16 * kChunk; }
  /// Chunks begin below it.
  SIMMIM_DEVICE int end() const { return kWhole ? 1 : tiles.shape.rows(); }
  SIMMIM_DEVICE void probabilities(Scores<kChunk>& s, int first) const {
    scores(s, first);
    normalise(s);
  }
};

/// 16 rows of 32 channels.
struct Channels {
  float v[4][4] = {};
  SIMMIM_DEVICE void add(const uint32_t (&a)[4], const uint16_t* rows, int step) {
    uint32_t b[2];
    SIMMIM_UNROLL
    for (int j = 0; j < 4; j++) {
      load_b_16x8(b, rows + 8 * j, step);
      multiply_16x8x16(v[j], a, b);
    }
  }
  /// f(pair of values, row, column in the 32, which of the lane's two rows).
  template <class F>
  SIMMIM_DEVICE void each(int r0, const F& f) {
    SIMMIM_UNROLL
    for (int j = 0; j < 4; j++)
      SIMMIM_UNROLL
      for (int half = 0; half < 2; half++) f(v[j][2 * half], v[j][2 * half + 1], r0 + fragment_row(2 * half), 8 * j + fragment_column(0), half);
  }
};

/// Instances [first, end) of a block's group.
struct TileGroup {
  int64_t head, group, first, end;
  SIMMIM_DEVICE TileGroup(int64_t groups, int64_t heads, int64_t instances)
      : head(blockIdx.x % heads), group(blockIdx.x / heads), first(group * instances / groups), end((group + 1) * instances / groups) {}
};

template <int kChunk, int kWarps, class Map>
__global__ void __launch_bounds__(kWarps * kWarpSize) attention_tiles(Map map, TileTensors t, TileShape shape, int64_t groups) {
  Tiles tiles(shape, false);
  const TileGroup group(groups, t.heads, map.instances());
  tiles.load_biases(map, group.head);
  WarpRows<kChunk, kWarps, Map> rows{map, tiles, group.head, static_cast<int>(threadIdx.x / kWarpSize) * 16, {}, {}};
  for (int64_t instance = group.first; instance < group.end; instance++) {
    __syncthreads();
    tiles.load(map, t, instance, group.head);
    Scores<kChunk> s;
    rows.measure(s);
    if (rows.one_chunk()) rows.normalise(s);
    for (int c0 = 0; c0 < shape.width(); c0 += 32) {
      Channels out;
      for (int first = 0; first < rows.end(); first += 16 * kChunk) {
        if (!rows.one_chunk()) rows.probabilities(s, first);
        SIMMIM_UNROLL
        for (int k = 0; k < kChunk; k++) {
          if (first + 16 * k >= shape.rows()) break;
          uint32_t a[4];
          s.operand(a, k);
          out.add(a, tiles.parts[2] + (first + 16 * k) * shape.step() + c0, shape.step());
        }
      }
      out.each(rows.r0, [&](float a, float b, int row, int c, int) {
        const Cell& cell = tiles.cells[row];
        if (cell.token >= 0 && c0 + c < shape.d) store_pair(t.y + t.mixed(cell, group.head) + c0 + c, a, b);
      });
    }
  }
}

/// Gradients that sum over the shared scores: rows r0 ... of scores x `right`, or of their transpose.
SIMMIM_DEVICE void sum_scores(Channels& out, const Tiles& tiles, int r0, bool transposed, const uint16_t* right) {
  const int step = tiles.shape.score_step();
  for (int k = 0; k < tiles.shape.rows(); k += 16) {
    uint32_t a[4];
    if (transposed) load_a_transposed(a, tiles.scores + k * step + r0, step);
    else load_a_16x16(a, tiles.scores + r0 * step + k, step);
    out.add(a, right + k * tiles.shape.step(), tiles.shape.step());
  }
}

/// Gradient of q or k. Without cosines it is the sum times the scale. With them q and k in shared memory are normalised by now, the
/// sum times the scale is the gradient of n = q / |q|, and dq = (dn - n (n . dn)) / |q|; returns the sum of n . dn of this lane's rows.
SIMMIM_DEVICE float put_gradient(const Tiles& tiles, const TileTensors& t, int64_t head, int r0, int which) {
  const TileShape& shape = tiles.shape;
  const uint16_t* const own = tiles.parts[which];
  const float scale = t.scales ? t.scales[head] : t.scale, *lengths = which == 0 ? tiles.query_factors : tiles.key_factors;
  RowPair along{{0, 0}};
  for (int pass = t.scales ? 0 : 1; pass < 2; pass++) {
    for (int c0 = 0; c0 < shape.width(); c0 += 32) {
      Channels out;
      sum_scores(out, tiles, r0, which == 1, tiles.parts[1 - which] + c0);
      out.each(r0, [&](float a, float b, int row, int c, int half) {
        const float x = bf16_to_float(own[row * shape.step() + c0 + c]), y = bf16_to_float(own[row * shape.step() + c0 + c + 1]);
        a *= scale, b *= scale;
        if (pass == 0) {
          along.v[half] += a * x + b * y;
          return;
        }
        const Cell& cell = tiles.cells[row];
        if (cell.token < 0 || c0 + c >= shape.d) return;
        const float length = !t.scales ? 1.0f : which == 0 ? lengths[row] / scale : lengths[row];
        const float removed = t.scales && length < 1e12f ? along.v[half] : 0.0f;  // below the clamp the divisor is a constant
        store_pair(t.dqkv + t.part(cell, head, which) + c0 + c, (a - x * removed) * length, (b - y * removed) * length);
      });
    }
    if (pass == 0)
      for (int half = 0; half < 2; half++) along.v[half] = quad_reduce(along.v[half], Sum{});
  }
  return along.v[0] + along.v[1];
}

/// Blocks of so many warps that a multiprocessor is to hold: their registers, four partitions of 16384, must not be spilled, and
/// enough of them hide what a block waits for while it loads.
template <int kWarps>
constexpr int kTileBlocks = kWarps <= 3 ? 5 : kWarps <= 4 ? 4 : 1;
/// Runs of 16 keys whose gradients of probabilities are in registers beside kChunk runs of probabilities: all of them, or a part, so
/// that they are made once more when the mean is known.
template <int kChunk, int kWarps>
constexpr int kTilePart = kChunk == 9 ? 3 : kWarps > 9 ? kChunk / 2 : kChunk;

/// `bias_partial` [groups, heads, n, n] and `scale_partial` [groups, heads, warps], each optional.
template <int kChunk, int kWarps, class Map>
__global__ void __launch_bounds__(kWarps * kWarpSize, kTileBlocks<kWarps>) attention_tiles_gradient(Map map, TileTensors t, TileShape shape, int64_t groups, float* bias_partial, float* scale_partial) {
  Tiles tiles(shape, true);
  const TileGroup group(groups, t.heads, map.instances());
  tiles.load_biases(map, group.head);
  const int r0 = static_cast<int>(threadIdx.x / kWarpSize) * 16;
  WarpRows<kChunk, kWarps, Map> rows{map, tiles, group.head, r0, {}, {}};
  float* const dbias = bias_partial ? bias_partial + (group.group * t.heads + group.head) * shape.n * shape.n : nullptr;
  float along = 0;
  for (int64_t instance = group.first; instance < group.end; instance++) {
    __syncthreads();
    tiles.load(map, t, instance, group.head);
    // The probabilities, and the sum of p dp of each row.
    constexpr int kPart = kTilePart<kChunk, kWarps>;
    Scores<kChunk> p;
    Scores<kPart> dp;
    RowPair mean{{0, 0}};
    rows.measure(p);
    if (rows.one_chunk()) rows.normalise(p);
    for (int first = 0; first < rows.end(); first += 16 * kChunk) {
      if (!rows.one_chunk()) rows.probabilities(p, first);
      p.put(tiles, r0, first);
      SIMMIM_UNROLL
      for (int k = 0; k < kChunk; k += kPart) {
        dp.multiply(shape, tiles.parts[3], r0, tiles.parts[2], first + 16 * k);
        SIMMIM_UNROLL
        for (int j = 0; j < 2 * kPart; j++)
          for (int e = 0; e < 4; e++) mean.v[e / 2] = fmaf(p.v[2 * k + j][e], dp.v[j][e], mean.v[e / 2]);
      }
    }
    for (int half = 0; half < 2; half++) mean.v[half] = quad_reduce(mean.v[half], Sum{});
    __syncthreads();
    for (int c0 = 0; c0 < shape.width(); c0 += 32) {
      Channels dv;
      sum_scores(dv, tiles, r0, true, tiles.parts[3] + c0);
      dv.each(r0, [&](float a, float b, int row, int c, int) {
        const Cell& cell = tiles.cells[row];
        if (cell.token >= 0 && c0 + c < shape.d) store_pair(t.dqkv + t.part(cell, group.head, 2) + c0 + c, a, b);
      });
    }
    __syncthreads();
    // The gradients of the scores.
    for (int first = 0; first < rows.end(); first += 16 * kChunk) {
      if (!rows.one_chunk()) rows.probabilities(p, first);
      SIMMIM_UNROLL
      for (int k = 0; k < kChunk; k += kPart) {
        if (kPart < kChunk || !rows.one_chunk()) dp.multiply(shape, tiles.parts[3], r0, tiles.parts[2], first + 16 * k);
        SIMMIM_UNROLL
        for (int j = 0; j < 2 * kPart; j++)
          for (int e = 0; e < 4; e++) p.v[2 * k + j][e] *= dp.v[j][e] - mean.v[e / 2];
      }
      p.put(tiles, r0, first);
      if (dbias)
        p.each(r0, first, [&](float& v, int row, int column, int) {
          if (row < shape.n && column < shape.n) dbias[row * shape.n + column] = v + (instance > group.first ? dbias[row * shape.n + column] : 0.0f);
        });
    }
    __syncthreads();
    if (t.scales) {
      for (int item = static_cast<int>(threadIdx.x); item < 2 * shape.rows() * shape.d; item += static_cast<int>(blockDim.x)) {
        const int row = item / shape.d, at = row * shape.step() + item % shape.d;  // of q, then of k
        const float length = row < shape.rows() ? tiles.query_factors[row] / t.scales[group.head] : tiles.key_factors[row - shape.rows()];
        tiles.parts[0][at] = float_to_bf16(bf16_to_float(tiles.parts[0][at]) * length);
      }
      __syncthreads();
    }
    along += put_gradient(tiles, t, group.head, r0, 0);
    put_gradient(tiles, t, group.head, r0, 1);
  }
  if (!scale_partial || !t.scales) return;
  along = warp_reduce(lane_id() % 4 == 0 ? along : 0.0f, Sum{}) / t.scales[group.head];
  if (lane_id() == 0) scale_partial[blockIdx.x * shape.warps() + r0 / 16] = along;
}

/// Whether the tiles can do it: bf16 with runs of eight channels at 16-byte addresses, an instance that fits into a block.
template <class Map>
bool tiles_can(const Map& map, const TileTensors& t, bool gradient, const Stream& stream) {
  return t.d % 8 == 0 && t.d <= 256 && map.tokens() <= kTileTokens && tile_shape(map, t).bytes(gradient) <= stream.shared_limit && packs_allowed(t.qkv, t.dy, t.y, t.dqkv);
}

template <int kChunk, int kWarps, class Map>
void launch_tiles(const Map& map, const TileTensors& t, const TileShape& shape, Stream& stream) {
  const int64_t most = static_cast<int64_t>(stream.multiprocessors) * 16 / t.heads, groups = most < 1 ? 1 : most < map.instances() ? most : map.instances();
  launch(stream, &attention_tiles<kChunk, kWarps, Map>, Grid{dim3(static_cast<unsigned>(groups * t.heads)), dim3(shape.warps() * kWarpSize), shape.bytes(false)}, map, t, shape, groups);
}

template <int kChunk, int kWarps, class Map>
void launch_tiles_gradient(const Map& map, const TileTensors& t, const TileShape& shape, int64_t groups, float* bias_partial, float* scale_partial, Stream& stream) {
  launch(stream, &attention_tiles_gradient<kChunk, kWarps, Map>, Grid{dim3(static_cast<unsigned>(groups * t.heads)), dim3(shape.warps() * kWarpSize), shape.bytes(true)}, map, t, shape, groups, bias_partial,
         scale_partial);
}

}  // namespace simmim::cuda
