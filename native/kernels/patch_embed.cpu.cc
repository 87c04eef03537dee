#include "patch_embed.h"

#include "../cpu/gemm.h"
#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

void run(const LinearGrad& k);

static SIMMIM_INLINE void put(float* p, float v) { *p = v; }
static SIMMIM_INLINE void put(uint16_t* p, float v) { *p = float_to_bf16(v); }

/// Calls move(pixel, element): offsets of one row of a patch in the images and in the unfolded patches.
template <class F>
static SIMMIM_INLINE void each_patch_row(const PatchGrid& grid, const F& move) {
  const int64_t p = grid.patch;
  parallel_for(grid.batch * grid.rows, [&](int64_t item) {
    const int64_t b = item / grid.rows, i = item % grid.rows;
    for (int64_t j = 0; j < grid.columns; j++)
      for (int64_t c = 0; c < grid.channels; c++)
        for (int64_t y = 0; y < p; y++)
          move(((b * grid.channels + c) * grid.height + i * p + y) * grid.width + j * p, (item * grid.columns + j) * grid.patch_size() + (c * p + y) * p);
  });
}

template <class T>
static void unfold(const PatchGrid& grid, const float* images, T* patches) {
  each_patch_row(grid, [&](int64_t pixel, int64_t element) {
    for (int64_t x = 0; x < grid.patch; x++) put(patches + element + x, images[pixel + x]);
  });
}
static void unfold(const PatchGrid& grid, const float* images, void* patches, DType dtype) {
  if (dtype == DType::f32) unfold(grid, images, static_cast<float*>(patches));
  else unfold(grid, images, static_cast<uint16_t*>(patches));
}

void run(const PatchEmbed& k) {
  const PatchGrid grid = patch_grid(k.images, k.patch);
  unfold(grid, k.images.f32(), k.workspace, k.weight.dtype);
  Gemm g;
  g.m = grid.tokens(), g.n = k.weight.dim(0), g.k = grid.patch_size();
  g.operands = k.weight.dtype;
  g.a = k.workspace, g.lda = g.k;
  g.b = k.weight.data, g.ldb = g.k, g.transpose_b = true;
  g.c = k.y.data, g.ldc = g.n, g.result = k.y.dtype;
  g.bias = k.bias.f32();
  gemm(g);
}

void run(const PatchEmbedGrad& k) {
  const PatchGrid grid = patch_grid(k.images, k.patch);
  const LinearGrad dense = k.dense_inside();
  if (dense.x.present()) unfold(grid, k.images.f32(), dense.x.data, k.dy.dtype);
  run(dense);
  if (!k.dimages.present()) return;
  const float* folded = dense.dx.f32();
  float* images = k.dimages.f32();
  each_patch_row(grid, [&](int64_t pixel, int64_t element) {
    for (int64_t x = 0; x < grid.patch; x++) images[pixel + x] = folded[element + x];
  });
}

}  // namespace simmim::SIMMIM_ISA
