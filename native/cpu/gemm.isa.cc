// Matrix products: blocking, sharing out to threads, finishing. See gemm.h for what is promised.
//
// Every thread works on its own block of C with its own packed panels; where a few cores have one last-level cache, they
// pack B once for all of them and take C in small pieces. A is packed where it is transposed, in bf16 or for AVX-512; else tiles
// read it where it lies. Blocks of K are kBlockK deep (a panel of B stays in the first-level cache, a block of A in the
// second); a tall K with a small C is cut into slices whose partial sums are added in order.
#include "gemm.h"

#include "gemm_finish.h"
#include "gemm_kernel.h"
#include "gemm_pack.h"
#include "isa.h"
#include "thread_pool.h"
#include "usable_threads.h"

namespace simmim::SIMMIM_ISA {
namespace {

constexpr int64_t kBlockK = 512, kBlockM = 8 * kTileRows, kBlockN = 1024;
constexpr int64_t kPanelGap = 16;  // floats between panels: whole powers of two apart they would all want the same places of a cache

SIMMIM_INLINE constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
SIMMIM_INLINE constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
SIMMIM_INLINE constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

constexpr GemmKernels kFloatKernels = gemm_kernels<MultiplyFloats>();
SIMMIM_INLINE const GemmKernels& kernels_for(Source source) {
#if defined(__AVX512F__) && defined(SIMMIM_BF16_DOT)
  if (source == Source::bf16_pairs) return bf16_dot_kernels();
#endif
  (void)source;
  return kFloatKernels;
}

bool has_finish(const Gemm& g) {
  return g.bias || g.pre.data || g.gelu || g.gelu_of.data || g.residual.data || g.result != DType::f32;
}

/// Whether tiles can add all of it themselves.
bool only_adds(const Gemm& g) {
  return !g.pre.data && !g.gelu && !g.gelu_of.data && g.result == DType::f32 && (!g.residual.data || g.residual.dtype == DType::f32);
}

/// Asks for the lines that a tile will be finished from and into, so that they arrive while it is computed: rows of a
/// tile are too short for the hardware to foresee.
template <int WRITE>
SIMMIM_INLINE void prefetch_rows(const Side& side, int64_t at, int64_t ld, int64_t m) {
  if (!side.data) return;
  const int64_t size = side.dtype == DType::f32 ? 4 : 2;
  const char* p = static_cast<const char*>(side.data) + at * size;
  for (int64_t i = 0; i < m; i++, p += ld * size)
    for (int64_t line = 0; line < kTileColumns * size; line += 64) __builtin_prefetch(p + line, WRITE);
}
SIMMIM_INLINE void prefetch_tile(const Gemm& g, int64_t i0, int64_t m, int64_t j0) {
  const int64_t at = i0 * g.ldc + j0;
  prefetch_rows<1>({g.c, g.result}, at, g.ldc, m);
  prefetch_rows<1>(g.pre, at, g.ldc, m);
  prefetch_rows<0>(g.gelu_of, at, g.ldc, m);
  prefetch_rows<0>(g.residual, at, g.ldc, m);
}
/// The part of a tile that is inside C, where the tile is computed aside.
void add_tile(const float* c, int64_t ldc, int64_t m, int64_t n, float* tile) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) tile[i * kTileColumns + j] += c[i * ldc + j];
}
void copy_tile(const float* tile, float* c, int64_t ldc, int64_t m, int64_t n) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) c[i * ldc + j] = tile[i * kTileColumns + j];
}

struct Range {
  int64_t begin, end;
  SIMMIM_INLINE int64_t size() const { return end - begin; }
};

/// One block of C over one range of K, done by one thread.
struct Block {
  const Gemm& g;
  Range rows, columns, depth;
  float* sums;       // where sums over blocks of K are kept: element (rows.begin, columns.begin)
  int64_t ld_sums;
  bool add;          // to what `sums` holds already
  bool finish;       // finish into g.c after the last block of K
  float* row_sums;   // of these rows over this depth, or null
};

/// Depth of a block of K: equal parts, even for pairs; a function of the range's length alone.
int64_t block_depth(int64_t k, int64_t unit) {
  const int64_t parts = ceil_div(k, kBlockK * unit);
  return parts == 0 ? 1 : round_up(ceil_div(k, parts), 2 * unit);
}

/// Rows of A as the tiles read them: packed panels, or where they lie.
struct Rows {
  const float* data;
  int64_t panel;  // floats from one panel of kTileRows rows to the next
  int64_t lda;    // in place: from row to row; packed: 0
};

/// What one block of A and one packed block of B contribute to C: tile after tile along the rows, so that C and what it is
/// finished from are read and written in long runs.
struct Tiles {
  const Block& block;
  const GemmKernels& kernels;
  int64_t units;                 // of K in the panels
  Rows a;
  int64_t panel_b;               // floats from one panel to the next
  const float* packed_b;
  Range rows, columns;           // relative to the block
  bool add, finish;

  void run() const {
    const int64_t aside_from = columns.begin + (!finish || only_adds(block.g) ? columns.size() / kTileColumns * kTileColumns : 0);
    for (int64_t i = rows.begin; i < rows.end; i += kTileRows) {
      const int64_t height = smaller(kTileRows, rows.end - i);
      const float* const from = a.data + (i - rows.begin) / kTileRows * a.panel;
      const GemmKernels::Tiles tiles = a.lda ? kernels.tiles_in_place[height] : kernels.tiles[height];
      if (aside_from > columns.begin) tiles(units, from, a.lda, packed_b, panel_b, (aside_from - columns.begin) / kTileColumns, straight(i));
      for (int64_t j = aside_from; j < columns.end; j += kTileColumns) run_aside(tiles, from, i, height, j);
    }
  }
  /// Where whole tiles go that need no more than additions.
  SIMMIM_INLINE TileResult straight(int64_t i) const {
    const Gemm& g = block.g;
    float* const c = block.sums + i * block.ld_sums + columns.begin;
    const float* const earlier = add ? c : nullptr;
    if (!finish) return {earlier, block.ld_sums, nullptr, nullptr, c, block.ld_sums};
    const int64_t row = block.rows.begin + i, column = block.columns.begin + columns.begin;
    const float* const residual = static_cast<const float*>(g.residual.data);
    return {earlier, block.ld_sums, g.bias ? g.bias + column : nullptr, residual ? residual + row * g.ldc + column : nullptr, c, block.ld_sums};
  }
  SIMMIM_INLINE void run_aside(GemmKernels::Tiles tiles, const float* from, int64_t i, int64_t height, int64_t j) const {
    const Gemm& g = block.g;
    const int64_t width = smaller(kTileColumns, columns.end - j), row = block.rows.begin + i, column = block.columns.begin + j;
    float* const c = block.sums + i * block.ld_sums + j;
    const bool whole = width == kTileColumns;
    alignas(64) float aside[kTileRows * kTileColumns];
    if (finish) prefetch_tile(g, row, height, column);
    tiles(units, from, a.lda, packed_b + (j - columns.begin) / kTileColumns * panel_b, panel_b, 1, {add && whole ? c : nullptr, block.ld_sums, nullptr, nullptr, aside, kTileColumns});
    if (!whole && add) add_tile(c, block.ld_sums, height, width, aside);
    if (finish) kernels.finish(g, aside, kTileColumns, row, height, column, width);
    else copy_tile(aside, c, block.ld_sums, height, width);
  }
};

/// Packs op(A)[rows, depth]; panels of kTileRows rows.
template <Source S>
void pack_a(const Gemm& g, Range rows, Range depth, int64_t panel, float* packed) {
  const char* a = static_cast<const char*>(g.a) + (g.transpose_a ? depth.begin * g.lda + rows.begin : rows.begin * g.lda + depth.begin) * source_bytes(S);
  if (g.transpose_a) return pack_rows<S, kTileRows, kPitchA>(a, g.lda, depth.size(), rows.size(), panel, packed);
  for (int64_t i = 0; i < rows.size(); i += kTileRows, packed += panel)
    pack_columns<S, kTileRows, kPitchA>(a + i * g.lda * source_bytes(S), g.lda, depth.size(), smaller(kTileRows, rows.size() - i), packed);
}
/// Rows of op(A) over a depth: where they lie, or packed into this thread's buffer, which has room for `most` rows.
template <Source S>
Rows rows_of(const Gemm& g, Range rows, Range depth, int64_t panel, int64_t most) {
  if constexpr (kReadsInPlace && S == Source::f32)
    if (!g.transpose_a && !g.row_sums && g.lda > 0) return {static_cast<const float*>(g.a) + rows.begin * g.lda + depth.begin, kTileRows * g.lda, g.lda};
  float* const packed = gemm_buffer(GemmBuffer::packed_a, static_cast<size_t>(ceil_div(most, kTileRows) * panel));
  pack_a<S>(g, rows, depth, panel, packed);
  return {packed, panel, 0};
}
/// Packs op(B)[depth, columns]; panels of kTileColumns columns.
template <Source S>
void pack_b(const Gemm& g, Range columns, Range depth, int64_t panel, float* packed) {
  const char* b = static_cast<const char*>(g.b) + (g.transpose_b ? columns.begin * g.ldb + depth.begin : depth.begin * g.ldb + columns.begin) * source_bytes(S);
  if (!g.transpose_b) return pack_rows<S, kTileColumns, kTileColumns>(b, g.ldb, depth.size(), columns.size(), panel, packed);
  for (int64_t j = 0; j < columns.size(); j += kTileColumns, packed += panel)
    pack_columns<S, kTileColumns, kTileColumns>(b + j * g.ldb * source_bytes(S), g.ldb, depth.size(), smaller(kTileColumns, columns.size() - j), packed);
}

template <Source S>
void run_block(const Block& block) {
  const Gemm& g = block.g;
  const int64_t m = block.rows.size(), n = block.columns.size(), k = block.depth.size();
  const int64_t depth = block_depth(k, source_unit(S)), units = ceil_div(depth, source_unit(S));
  const int64_t panel_a = kPitchA * units + kPanelGap, panel_b = kTileColumns * units + kPanelGap;
  float* const packed_b = gemm_buffer(GemmBuffer::packed_b, static_cast<size_t>(ceil_div(smaller(kBlockN, n), kTileColumns) * panel_b));
  for (int64_t jc = 0; jc < n; jc += kBlockN) {
    const Range columns{jc, smaller(n, jc + kBlockN)};
    int64_t pc = 0;
    do {  // once even when K is 0: C must still be written
      const Range part{block.depth.begin + pc, block.depth.begin + smaller(k, pc + depth)};
      const bool add = pc > 0 || block.add;
      pc += depth;
      pack_b<S>(g, {block.columns.begin + columns.begin, block.columns.begin + columns.end}, part, panel_b, packed_b);
      for (int64_t ic = 0; ic < m; ic += kBlockM) {
        const Range rows{ic, smaller(m, ic + kBlockM)};
        const Rows a = rows_of<S>(g, {block.rows.begin + rows.begin, block.rows.begin + rows.end}, part, panel_a, kBlockM);
        if (block.row_sums && jc == 0) sum_panels<S>(a.data, ceil_div(part.size(), source_unit(S)), kTileRows, kPitchA, panel_a, rows.size(), block.row_sums + ic, part.begin > block.depth.begin);
        Tiles{block, kernels_for(S), ceil_div(part.size(), source_unit(S)), a, panel_b, packed_b, rows, columns, add, pc >= k && block.finish}.run();
      }
    } while (pc < k);
  }
}

void run_block(const Block& block) {
  if (block.g.operands == DType::f32) return run_block<Source::f32>(block);
#if defined(__AVX512F__) && defined(SIMMIM_BF16_DOT)
  if (has_bf16_dot()) return run_block<Source::bf16_pairs>(block);
#endif
  run_block<Source::bf16_widened>(block);
}

/// How the product is cut. `slices` (of K) follows from the shape alone, because it decides the bits.
struct Grid {
  int64_t rows, columns, slices;      // number of blocks
  int64_t height, width, thickness;   // their sizes
};

int64_t slice_count(const Gemm& g) {
  if (g.m * g.n > 256 * 1024 || g.k < 2048) return 1;
  return smaller(8, g.k / 1024);
}

/// The cut of rows and columns with the least modelled time: tiles' arithmetic, packing, rounds of threads.
Grid choose_grid(const Gemm& g) {
  Grid best{};
  const int64_t slices = slice_count(g), threads = usable_threads(), thickness = round_up(ceil_div(g.k, slices), 16);
  const double work = static_cast<double>(g.m) * g.n * g.k;
  const int64_t most = work < 2e5 ? 1 : work / threads > 3e8 ? 2 * threads : threads;
  double least = 0;
  for (int64_t r = 1; r <= most; r++)
    for (int64_t c = 1; r * c <= most; c++) {
      const int64_t height = round_up(ceil_div(g.m, r), kTileRows), width = round_up(ceil_div(g.n, c), kTileColumns);
      const int64_t rows = ceil_div(g.m, height), columns = ceil_div(g.n, width);
      const double depth = static_cast<double>(smaller(thickness, g.k)), h = static_cast<double>(height), w = static_cast<double>(width);
      const double time = h * w * depth / kLanes + 2 * depth * (h + w) + h * w * (1 + depth / kBlockK) * 0.25;
      const double rounds = static_cast<double>(ceil_div(rows * columns * slices, threads)) * (rows * columns * slices > threads ? 0.97 : 1.0);
      if (least == 0 || time * rounds < least) {
        least = time * rounds;
        best = {rows, columns, slices, height, width, thickness};
      }
    }
  return best;
}

void run_whole(const Gemm& g, const Grid& grid) {
  const bool finish = has_finish(g);
  parallel_for(grid.rows * grid.columns, [&](int64_t item) {
    const int64_t i = item / grid.columns * grid.height, j = item % grid.columns * grid.width;
    const Range rows{i, smaller(g.m, i + grid.height)}, columns{j, smaller(g.n, j + grid.width)};
    float* sums;
    int64_t ld = g.ldc;
    if (g.result == DType::f32) {
      sums = static_cast<float*>(g.c) + i * g.ldc + j;
    } else {
      ld = columns.size();
      sums = gemm_buffer(GemmBuffer::partial, static_cast<size_t>(rows.size() * ld));
    }
    run_block(Block{g, rows, columns, {0, g.k}, sums, ld, g.accumulate, finish, g.row_sums && j == 0 ? g.row_sums + i : nullptr});
  });
}

/// A product whose packed B is shared by the threads, in steps (a block of columns over a block of K): B is packed into one of two
/// buffers while the step before is computed, C is taken in pieces of a few rows. Items are handed out in order and wait only
/// for earlier ones: for the packing of their step, for the same piece in the step before, for the buffer to be free.
template <Source S>
struct SharedProduct {
  static constexpr int64_t kPackColumns = kPackedTogether * kTileColumns;

  const Gemm& g;
  int64_t width, depth;             // columns and K of a step
  int64_t across, down;             // steps along N and K
  int64_t height, pieces, packs;    // rows of a piece of C; pieces and packings of a step
  int64_t panel_a, panel_b;
  float* packed[2];
  int32_t* packings;                // of each step, how many are done
  int32_t* progress;                // of each piece, how many steps are done

  SharedProduct(const Gemm& product, int64_t rows) : g(product), height(rows) {
    width = smaller(kBlockN, round_up(g.n, kTileColumns));
    depth = block_depth(g.k, source_unit(S));
    across = ceil_div(g.n, width), down = ceil_div(g.k, depth);
    pieces = ceil_div(g.m, height), packs = ceil_div(smaller(width, g.n), kPackColumns);
    const int64_t units = ceil_div(depth, source_unit(S));
    panel_a = kPitchA * units + kPanelGap, panel_b = kTileColumns * units + kPanelGap;
    const int64_t buffer = width / kTileColumns * panel_b;
    packed[0] = gemm_buffer(GemmBuffer::packed_b, static_cast<size_t>(2 * buffer + across * down + pieces));
    packed[1] = packed[0] + buffer;
    packings = reinterpret_cast<int32_t*>(packed[1] + buffer);
    progress = packings + across * down;
    for (int64_t i = 0; i < across * down + pieces; i++) packings[i] = 0;
  }
  int64_t items() const { return across * down * (packs + pieces); }
  Range columns_of(int64_t step) const {
    const int64_t j = step / down * width;
    return {j, smaller(g.n, j + width)};
  }
  Range depth_of(int64_t step) const {
    const int64_t p = step % down * depth;
    return {p, smaller(g.k, p + depth)};
  }

  /// Packings of the first step; then of every step half the pieces, the packings of the next step, the other half.
  void run(int64_t item) const {
    if (item < packs) return pack(0, item);
    const int64_t step = (item - packs) / (packs + pieces), i = (item - packs) % (packs + pieces), half = pieces / 2;
    if (step + 1 == across * down || i < half) return multiply(step, i);
    if (i < half + packs) return pack(step + 1, i - half);
    multiply(step, i - packs);
  }
  void pack(int64_t step, int64_t part) const {
    const Range all = columns_of(step), some{all.begin + part * kPackColumns, smaller(all.end, all.begin + (part + 1) * kPackColumns)};
    for (int64_t i = 0; step >= 2 && i < pieces; i++) wait_for(progress + i, static_cast<int32_t>(step - 1));
    if (some.size() > 0) pack_b<S>(g, some, depth_of(step), panel_b, packed[step % 2] + part * kPackedTogether * panel_b);
    __atomic_fetch_add(packings + step, 1, __ATOMIC_RELEASE);
  }
  void multiply(int64_t step, int64_t piece) const {
    const Range rows{piece * height, smaller(g.m, (piece + 1) * height)}, columns = columns_of(step), part = depth_of(step);
    const Rows a = rows_of<S>(g, rows, part, panel_a, height);
    wait_for(packings + step, static_cast<int32_t>(packs));
    wait_for(progress + piece, static_cast<int32_t>(step));
    const int64_t units = ceil_div(part.size(), source_unit(S));
    const bool first = part.begin == 0, last = part.end == g.k;
    if (g.row_sums && columns.begin == 0) sum_panels<S>(a.data, units, kTileRows, kPitchA, panel_a, rows.size(), g.row_sums + rows.begin, !first);
    const Block block{g, rows, columns, part, static_cast<float*>(g.c) + rows.begin * g.ldc + columns.begin, g.ldc, !first || g.accumulate, has_finish(g), nullptr};
    Tiles{block, kernels_for(S), units, a, panel_b, packed[step % 2], {0, rows.size()}, {0, columns.size()}, block.add, last && block.finish}.run();
    __atomic_store_n(progress + piece, static_cast<int32_t>(step + 1), __ATOMIC_RELEASE);
  }
};

/// Rows of a piece of C for that; 0 where the threads had better work on their own: little is packed or for few rows, or the cores may be
/// far apart. A piece is about a tenth of a millisecond of work, or whole cache lines of a transposed A.
int64_t shared_rows(const Gemm& g) {
#if defined(__AVX512F__)  // measured there: panels shared between cores cost more than packing them twice
  (void)g;
  return 0;
#else
  constexpr int64_t kLeastWork = 200'000'000, kMostThreads = 4, kPieceWork = 2'000'000;
  const int64_t threads = usable_threads();
  if (threads == 1 || threads > kMostThreads || g.operands != DType::f32 || g.result != DType::f32 || g.m < (g.transpose_a ? 1024 : 512) || g.m * g.n * g.k < kLeastWork) return 0;
  return g.transpose_a ? kBlockM : smaller(kBlockM, round_up(kPieceWork / (smaller(g.n, kBlockN) * smaller(g.k, kBlockK)) + 1, kTileRows));
#endif
}

void run_shared(const Gemm& g, int64_t rows) {
  const SharedProduct<Source::f32> product(g, rows);
  parallel_for(product.items(), [&](int64_t item) { product.run(item); });
}

void run_sliced(const Gemm& g, const Grid& grid) {
  float* const slices = gemm_buffer(GemmBuffer::slices, static_cast<size_t>(grid.slices * g.m * (g.n + 1)));
  float* const row_sums = slices + grid.slices * g.m * g.n;
  parallel_for(grid.slices * grid.rows * grid.columns, [&](int64_t item) {
    const int64_t slice = item / (grid.rows * grid.columns), rest = item % (grid.rows * grid.columns);
    const int64_t i = rest / grid.columns * grid.height, j = rest % grid.columns * grid.width, p = smaller(g.k, slice * grid.thickness);
    const Range rows{i, smaller(g.m, i + grid.height)}, columns{j, smaller(g.n, j + grid.width)}, depth{p, smaller(g.k, p + grid.thickness)};
    run_block(Block{g, rows, columns, depth, slices + (slice * g.m + i) * g.n + j, g.n, false, false, g.row_sums && j == 0 ? row_sums + slice * g.m + i : nullptr});
  });
  const bool finish = has_finish(g);
  parallel_ranges(g.m, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      if (g.row_sums) {
        float total = row_sums[i];
        for (int64_t s = 1; s < grid.slices; s++) total += row_sums[s * g.m + i];
        g.row_sums[i] = total;
      }
      float* sum = slices + i * g.n;
      for (int64_t s = 1; s < grid.slices; s++) {
        const float* part = slices + (s * g.m + i) * g.n;
        for (int64_t j = 0; j < g.n; j++) sum[j] += part[j];
      }
      if (finish) {
        finish_rows(g, sum, g.n, i, 1, 0, g.n);
        continue;
      }
      float* c = static_cast<float*>(g.c) + i * g.ldc;
      for (int64_t j = 0; j < g.n; j++) c[j] = g.accumulate ? c[j] + sum[j] : sum[j];
    }
  });
}

}  // namespace

void gemm(const Gemm& g) {
  if (g.m <= 0 || g.n <= 0) return;
  const Grid grid = choose_grid(g);
  if (grid.slices > 1) return run_sliced(g, grid);
  if (const int64_t rows = shared_rows(g)) return run_shared(g, rows);
  run_whole(g, grid);
}

}  // namespace simmim::SIMMIM_ISA
