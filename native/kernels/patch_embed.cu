#include "patch_embed.h"

#include "../cuda/divide.cuh"
#include "../cuda/gemm.h"
#include "../cuda/launch.cuh"
#include "../cuda/side.cuh"

namespace simmim::cuda {

void run(const LinearGrad& k, Stream& stream);

namespace {

/// Elements of the unfolded patches in order; operand 0 is the place in the images.
Places<1> places_of(const PatchGrid& grid, int64_t count) {
  Places<1> places;
  if (count == 0) return places;
  places.wide = count >= int64_t{1} << 31;
  const int64_t plane = grid.height * grid.width, p = grid.patch;
  places.add(grid.batch, {grid.channels * plane});
  places.add(grid.rows, {p * grid.width});
  places.add(grid.columns, {p});
  places.add(grid.channels, {plane});
  places.add(p, {grid.width});
  places.add(p, {1});
  return places;
}

struct Unfold {
  const float* images;
  Side patches;
  Places<1> places;
  __device__ void operator()(int64_t i) const {
    int64_t at[1];
    places.find(i, at);
    store_one(patches, i, images[at[0]]);
  }
};

struct Fold {
  const float* patches;
  float* images;
  Places<1> places;
  __device__ void operator()(int64_t i) const {
    int64_t at[1];
    places.find(i, at);
    images[at[0]] = patches[i];
  }
};

}  // namespace

void run(const PatchEmbed& k, Stream& stream) {
  const PatchGrid grid = patch_grid(k.images, k.patch);
  const int64_t count = k.images.count();
  for_each(stream, count, Unfold{k.images.f32(), {k.workspace, k.weight.dtype}, places_of(grid, count)});
  Gemm g;
  g.m = grid.tokens(), g.n = k.weight.dim(0), g.k = grid.patch_size();
  g.operands = k.weight.dtype;
  g.a = k.workspace, g.lda = g.k;
  g.b = k.weight.data, g.ldb = g.k, g.transpose_b = true;
  g.c = k.y.data, g.ldc = g.n, g.result = k.y.dtype;
  g.bias = k.bias.f32();
  gemm(g, stream);
}

void run(const PatchEmbedGrad& k, Stream& stream) {
  const int64_t count = k.images.count();
  const PatchGrid grid = patch_grid(k.images, k.patch);
  const LinearGrad dense = k.dense_inside();
  if (dense.x.present()) for_each(stream, count, Unfold{k.images.f32(), {dense.x.data, k.dy.dtype}, places_of(grid, count)});
  run(dense, stream);
  if (k.dimages.present()) for_each(stream, count, Fold{dense.dx.f32(), k.dimages.f32(), places_of(grid, count)});
}

}  // namespace simmim::cuda
