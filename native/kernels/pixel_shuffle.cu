#include "pixel_shuffle.h"

#include "../cuda/divide.cuh"
#include "../cuda/launch.cuh"
#include "../cuda/side.cuh"

namespace simmim::cuda {

namespace {

/// Pixels in order; operand 0 is the place among the features.
struct Shuffle {
  Side features, pixels;
  Places<1> places;
  bool to_pixels;
  __device__ void operator()(int64_t i) const {
    int64_t at[1];
    places.find(i, at);
    if (to_pixels) store_one(pixels, i, load_one(features, at[0]));
    else store_one(features, at[0], load_one(pixels, i));
  }
};

void shuffle(const Tensor& cells, const Tensor& image, bool to_pixels, Stream& stream) {
  if (image.count() == 0) return;
  const int64_t h = cells.dim(1), w = cells.dim(2), features = cells.dim(3), r = image.dim(3) / w;
  Places<1> places;
  places.wide = image.count() >= int64_t{1} << 31;
  places.add(image.dim(0), {h * w * features});
  places.add(image.dim(1), {r * r});
  places.add(h, {w * features});
  places.add(r, {r});
  places.add(w, {features});
  places.add(r, {1});
  for_each(stream, image.count(), Shuffle{side_of(cells), side_of(image), places, to_pixels});
}

}  // namespace

void run(const PixelShuffle& k, Stream& stream) { shuffle(k.pred, k.y, true, stream); }

void run(const PixelShuffleGrad& k, Stream& stream) { shuffle(k.dpred, k.dy, false, stream); }

}  // namespace simmim::cuda
