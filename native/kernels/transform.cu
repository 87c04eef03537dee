#include "transform.h"

#include "../cuda/divide.cuh"
#include "../cuda/launch.cuh"
#include "picture.h"

namespace simmim::cuda {

namespace {

/// One pixel of y [B, P, Q, C], all its channels.
template <class T>
struct Project {
  Picture<T> first;  // of the batch
  const float* transforms;
  T* y;
  int64_t matrix;  // floats from one picture's matrix to the next; 0: one for all
  FillMode mode;
  bool nearest;
  float fill;
  Coordinates<3> places;
  __device__ void operator()(int64_t i) const {
    int64_t at[3];
    places.find(i, at);
    Picture<T> picture = first;
    picture.data += at[0] * first.height * first.width * first.channels;
    const T outside = pixel_value<T>(fill);
    T* out = y + i * first.channels;
    Projection source;
    const bool is_there = source.find(transforms + at[0] * matrix, static_cast<double>(at[1]), static_cast<double>(at[2]), first.height, first.width, mode);
    if (is_there && !nearest) {
      const PixelsRound<T> pixels(picture, source.y, source.x);
      for (int64_t c = 0; c < first.channels; c++) out[c] = pixels(c, fill);
      return;
    }
    const T* from = is_there ? picture.nearest(source.y, source.x) : nullptr;
    for (int64_t c = 0; c < first.channels; c++) out[c] = from ? from[c] : outside;
  }
};

template <class T>
void transform(const Transform& k, Stream& stream) {
  const Picture<T> first{k.x.as<T>(), k.x.dim(1), k.x.dim(2), k.x.dim(3)};
  const Project<T> body{first, k.transforms.f32(), k.y.as<T>(), k.transforms.dim(0) == 1 ? 0 : 8, static_cast<FillMode>(k.op), k.nearest, k.fill, Coordinates<3>({k.y.dim(0), k.y.dim(1), k.y.dim(2)})};
  for_each(stream, k.y.shape.span(0, 3), body);
}

/// Distances from the centre times sine and cosine, of the columns and then of the rows. They are kept in memory: sums must not
/// be fused with the products.
struct TurnedDistances {
  double *sines, *cosines;
  double sine, cosine, center_x, center_y;
  int64_t columns;
  __device__ void operator()(int64_t i) const {
    const double distance = i < columns ? static_cast<double>(i) - center_x : static_cast<double>(i - columns) - center_y;
    sines[i] = distance * sine;
    cosines[i] = distance * cosine;
  }
};

template <class T>
struct Turn {
  Picture<T> first;
  const double *sines, *cosines;
  double center_x, center_y;
  const float* fill;
  T* y;
  Coordinates<3> places;
  __device__ void operator()(int64_t i) const {
    int64_t at[3];
    places.find(i, at);
    Picture<T> picture = first;
    picture.data += at[0] * first.height * first.width * first.channels;
    const int64_t row = first.width + at[1], column = at[2];
    const T* from = picture.nearest(sines[column] + cosines[row] + center_y, cosines[column] - sines[row] + center_x);
    for (int64_t c = 0; c < first.channels; c++) y[i * first.channels + c] = from ? from[c] : pixel_value<T>(fill[c]);
  }
};

template <class T>
void rotate(const Rotate& k, Stream& stream) {
  const int64_t h = k.x.dim(1), w = k.x.dim(2);
  double *sines = static_cast<double*>(k.workspace), *cosines = sines + w + h;
  for_each(stream, w + h, TurnedDistances{sines, cosines, k.sine, k.cosine, k.center_x, k.center_y, w});
  const Picture<T> first{k.x.as<T>(), h, w, k.x.dim(3)};
  for_each(stream, k.x.shape.span(0, 3), Turn<T>{first, sines, cosines, k.center_x, k.center_y, k.fill.f32(), k.y.as<T>(), Coordinates<3>({k.x.dim(0), h, w})});
}

}  // namespace

void run(const Transform& k, Stream& stream) {
  switch (k.x.dtype) {
    case DType::f32: return transform<float>(k, stream);
    case DType::i32: return transform<int32_t>(k, stream);
    default: return transform<uint8_t>(k, stream);
  }
}

void run(const Rotate& k, Stream& stream) {
  switch (k.x.dtype) {
    case DType::f32: return rotate<float>(k, stream);
    case DType::i32: return rotate<int32_t>(k, stream);
    default: return rotate<uint8_t>(k, stream);
  }
}

}  // namespace simmim::cuda
