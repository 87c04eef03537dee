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

namespace simmim::SIMMIM_ISA {
namespace {

constexpr int64_t kBlockK = 512, kBlockM = 8 * kTileRows, kBlockN = 1024;

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
/// The part of a tile that is inside C, when the tile was computed aside: c (+)= tile.
void copy_tile(const float* tile, float* c, int64_t ldc, int64_t m, int64_t n, bool add) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) c[i * ldc + j] = tile[i * kTileColumns + j] + (add ? c[i * ldc + j] : 0.0f);
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
};

/// Depth of a block of K: equal parts, even for pairs; a function of the range's length alone.
int64_t block_depth(int64_t k, int64_t unit) {
  const int64_t parts = ceil_div(k, kBlockK * unit);
  return parts == 0 ? 1 : round_up(ceil_div(k, parts), 2 * unit);
}

template <Source S>
void run_block(const Block& block) {
  constexpr int64_t size = source_bytes(S), unit = source_unit(S);
  const Gemm& g = block.g;
  const int64_t depth = block_depth(block.depth.size(), unit), units = ceil_div(depth, unit);
  const int64_t m_total = block.rows.size(), n_total = block.columns.size();
  const GemmKernels& kernels = kernels_for(S);
  alignas(64) float aside[kTileRows * kTileColumns];
  float* const packed_b = gemm_buffer(GemmBuffer::packed_b, static_cast<size_t>(round_up(smaller(kBlockN, n_total), kTileColumns) * units));
  float* const packed_a = gemm_buffer(GemmBuffer::packed_a, static_cast<size_t>(ceil_div(kBlockM, kTileRows) * kPitchA * units));

  for (int64_t jc = 0; jc < n_total; jc += kBlockN) {
    const int64_t n = smaller(kBlockN, n_total - jc);
    int64_t pc = 0;
    do {  // once even when K is 0: C must still be written
      const int64_t k = smaller(depth, block.depth.size() - pc), ku = ceil_div(k, unit), k0 = block.depth.begin + pc;
      const bool last = pc + k >= block.depth.size(), add = pc > 0 || block.add, finish = last && block.finish;
      const int64_t column = block.columns.begin + jc;
      const char* b = static_cast<const char*>(g.b) + (g.transpose_b ? column * g.ldb + k0 : k0 * g.ldb + column) * size;
      if (!g.transpose_b) pack_rows<S>(b, g.ldb, k, n, kTileColumns, kTileColumns, kTileColumns * units, packed_b);
      else
        for (int64_t j = 0; j < n; j += kTileColumns) pack_columns<S>(b + j * g.ldb * size, g.ldb, k, smaller(kTileColumns, n - j), kTileColumns, packed_b + j * units);
      for (int64_t ic = 0; ic < m_total; ic += kBlockM) {
        const int64_t m = smaller(kBlockM, m_total - ic), row = block.rows.begin + ic;
        const char* a = static_cast<const char*>(g.a) + (g.transpose_a ? k0 * g.lda + row : row * g.lda + k0) * size;
        if (g.transpose_a) pack_rows<S>(a, g.lda, k, m, kTileRows, kPitchA, kPitchA * units, packed_a);
        else
          for (int64_t i = 0; i < m; i += kTileRows) pack_columns<S>(a + i * g.lda * size, g.lda, k, smaller(kTileRows, m - i), kPitchA, packed_a + i / kTileRows * kPitchA * units);
        for (int64_t j = 0; j < n; j += kTileColumns) {
          const int64_t width = smaller(kTileColumns, n - j);
          const float* panel_b = packed_b + j * units;
          for (int64_t i = 0; i < m; i += kTileRows) {
            const int64_t height = smaller(kTileRows, m - i);
            const float* panel_a = packed_a + i / kTileRows * kPitchA * units;
            float* c = block.sums + (ic + i) * block.ld_sums + jc + j;
            const bool whole = width == kTileColumns;
            if (whole && !finish) {
              kernels.tiles[height](ku, panel_a, panel_b, c, block.ld_sums, add);
              continue;
            }
            if (finish) prefetch_tile(g, row + i, height, column + j);
            if (finish && add) {  // the last block of K: earlier sums join in the tile
              for (int64_t r = 0; r < height; r++)
                for (int64_t s = 0; s < width; s++) aside[r * kTileColumns + s] = c[r * block.ld_sums + s];
            }
            kernels.tiles[height](ku, panel_a, panel_b, aside, kTileColumns, finish && add);
            if (finish) kernels.finish(g, aside, kTileColumns, row + i, height, column + j, width);
            else copy_tile(aside, c, block.ld_sums, height, width, add);
          }
        }
      }
      pc += k;
    } while (pc < block.depth.size());
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
  const int64_t slices = slice_count(g), threads = thread_count(), thickness = round_up(ceil_div(g.k, slices), 16);
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
    run_block(Block{g, rows, columns, {0, g.k}, sums, ld, g.accumulate, finish});
  });
}

void run_sliced(const Gemm& g, const Grid& grid) {
  float* const slices = gemm_buffer(GemmBuffer::slices, static_cast<size_t>(grid.slices * g.m * g.n));
  parallel_for(grid.slices * grid.rows * grid.columns, [&](int64_t item) {
    const int64_t slice = item / (grid.rows * grid.columns), rest = item % (grid.rows * grid.columns);
    const int64_t i = rest / grid.columns * grid.height, j = rest % grid.columns * grid.width, p = smaller(g.k, slice * grid.thickness);
    const Range rows{i, smaller(g.m, i + grid.height)}, columns{j, smaller(g.n, j + grid.width)}, depth{p, smaller(g.k, p + grid.thickness)};
    run_block(Block{g, rows, columns, depth, slices + (slice * g.m + i) * g.n + j, g.n, false, false});
  });
  const bool finish = has_finish(g);
  parallel_ranges(g.m, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
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
