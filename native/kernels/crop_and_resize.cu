#include "crop_and_resize.h"

#include "../cuda/divide.cuh"
#include "../cuda/launch.cuh"

namespace simmim::cuda {

namespace {

/// The taps of each box: those of its rows, then those of its columns.
struct MakeTaps {
  const float* boxes;
  int64_t height, width, rows, columns;
  bool nearest;
  Tap* taps;
  __device__ void operator()(int64_t i) const {
    const int64_t at = i % (rows + columns);
    const float* box = boxes + i / (rows + columns) * 4;
    taps[i] = at < rows ? BoxAxis(box[0], box[2], height, rows, nearest)[at] : BoxAxis(box[1], box[3], width, columns, nearest)[at - rows];
  }
};

/// Values of y [N, P, Q, C] from x [B, H, W, C].
template <class T>
struct Crop {
  const T* x;
  const int32_t* box_index;
  const Tap* taps;
  float* y;
  int64_t batch, height, width, channels, rows, columns;
  bool nearest;
  float fill;
  Coordinates<4> places;
  __device__ void operator()(int64_t i) const {
    int64_t at[4];
    places.find(i, at);
    const int64_t picture = box_index[at[0]];
    const Tap *own = taps + at[0] * (rows + columns), row = own[at[1]], column = own[rows + at[2]];
    if (picture < 0 || picture >= batch) y[i] = 0;
    else if (row.lo < 0 || column.lo < 0) y[i] = fill;
    else y[i] = sample(x + picture * height * width * channels + at[3], row, column);
  }
  SIMMIM_DEVICE float sample(const T* plane, const Tap& row, const Tap& column) const {
    const auto between = [this](float low, float high, float fraction) { return nearest ? low : low + (high - low) * fraction; };
    const auto value = [&](int64_t h, int64_t w) { return static_cast<float>(plane[(h * width + w) * channels]); };
    const float left = between(value(row.lo, column.lo), value(row.hi, column.lo), row.fraction);
    return between(left, between(value(row.lo, column.hi), value(row.hi, column.hi), row.fraction), column.fraction);
  }
};

template <class T>
void crop(const CropAndResize& k, const Tap* taps, Stream& stream) {
  const int64_t p = k.y.dim(1), q = k.y.dim(2), c = k.y.dim(3);
  const Crop<T> body{k.x.as<T>(), k.box_index.i32(), taps, k.y.f32(), k.x.dim(0), k.x.dim(1), k.x.dim(2), c, p, q, k.nearest, k.fill, Coordinates<4>({k.y.dim(0), p, q, c})};
  for_each(stream, k.y.count(), body);
}

}  // namespace

void run(const CropAndResize& k, Stream& stream) {
  if (k.y.count() == 0) return;
  const int64_t p = k.y.dim(1), q = k.y.dim(2);
  Tap* taps = static_cast<Tap*>(k.workspace);
  for_each(stream, k.y.dim(0) * (p + q), MakeTaps{k.boxes.f32(), k.x.dim(1), k.x.dim(2), p, q, k.nearest, taps});
  switch (k.x.dtype) {
    case DType::f32: return crop<float>(k, taps, stream);
    case DType::i32: return crop<int32_t>(k, taps, stream);
    default: return crop<uint8_t>(k, taps, stream);
  }
}

}  // namespace simmim::cuda
