// Matrix products: blocking, sharing out to threads, finishing. See gemm.h for what is promised.
//
// Every thread works on its own block of C with its own packed panels: panels shared between cores cost more
// than packing them twice. Blocks of K are kBlockK deep (a panel of B stays in the first-level cache, a block
// of A in the second); a tall K with a small C is cut into slices whose partial sums are added in order.
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

/// What one packed block of A and one of B contribute to C: tile after tile along the rows, so that C and what it is
/// finished from are read and written in long runs.
struct Tiles {
  const Block& block;
  const GemmKernels& kernels;
  int64_t units;                 // of K in the panels
  int64_t panel_a, panel_b;      // floats from one panel to the next
  const float *packed_a, *packed_b;
  Range rows, columns;           // relative to the block
  bool add, finish;

  void run() const {
    for (int64_t i = rows.begin; i < rows.end; i += kTileRows)
      for (int64_t j = columns.begin; j < columns.end; j += kTileColumns) run_tile(i, j);
  }
  SIMMIM_INLINE void run_tile(int64_t i, int64_t j) const {
    const Gemm& g = block.g;
    const int64_t height = smaller(kTileRows, rows.end - i), width = smaller(kTileColumns, columns.end - j);
    const float* a = packed_a + (i - rows.begin) / kTileRows * panel_a;
    const float* b = packed_b + (j - columns.begin) / kTileColumns * panel_b;
    float* c = block.sums + i * block.ld_sums + j;
    const bool whole = width == kTileColumns;
    if (!finish && whole) return kernels.tiles[height](units, a, b, add ? c : nullptr, c, block.ld_sums, block.ld_sums);
    alignas(64) float aside[kTileRows * kTileColumns];
    const int64_t row = block.rows.begin + i, column = block.columns.begin + j;
    if (finish) prefetch_tile(g, row, height, column);
    kernels.tiles[height](units, a, b, add && whole ? c : nullptr, aside, block.ld_sums, kTileColumns);
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
  float* const packed_a = gemm_buffer(GemmBuffer::packed_a, static_cast<size_t>(ceil_div(kBlockM, kTileRows) * panel_a));
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
        pack_a<S>(g, {block.rows.begin + rows.begin, block.rows.begin + rows.end}, part, panel_a, packed_a);
        if (block.row_sums && jc == 0) sum_panels<S>(packed_a, ceil_div(part.size(), source_unit(S)), kTileRows, kPitchA, panel_a, rows.size(), block.row_sums + ic, part.begin > block.depth.begin);
        Tiles{block, kernels_for(S), ceil_div(part.size(), source_unit(S)), panel_a, panel_b, packed_a, packed_b, rows, columns, add, pc >= k && block.finish}.run();
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
  if (grid.slices > 1) run_sliced(g, grid);
  else run_whole(g, grid);
}

}  // namespace simmim::SIMMIM_ISA
