#include "resize.h"

#include "../cuda/bisect.cuh"
#include "../cuda/divide.cuh"
#include "../cuda/launch.cuh"

namespace simmim::cuda {

namespace {

/// The taps of both axes: those of the rows, then those of the columns.
struct MakeTaps {
  ResizeAxis rows, columns;
  int64_t row_count;
  Tap* taps;
  __device__ void operator()(int64_t i) const { taps[i] = i < row_count ? rows[i] : columns[i - row_count]; }
};

Tap* make_taps(const Tensor& x, const Tensor& y, bool corners, bool centers, bool nearest, void* memory, Stream& stream) {
  const ResizeAxis rows(x.dim(1), y.dim(1), corners, centers, nearest), columns(x.dim(2), y.dim(2), corners, centers, nearest);
  Tap* taps = static_cast<Tap*>(memory);
  for_each(stream, y.dim(1) + y.dim(2), MakeTaps{rows, columns, y.dim(1), taps});
  return taps;
}

/// Values of y [B, P, Q, C] from x [B, H, W, C].
template <class T>
struct Interpolate {
  const T* x;
  float* y;
  const Tap *rows, *columns;
  int64_t height, width, channels;
  Coordinates<4> places;
  __device__ void operator()(int64_t i) const {
    int64_t at[4];
    places.find(i, at);
    const Tap row = rows[at[1]], column = columns[at[2]];
    const T *top = x + (at[0] * height + row.lo) * width * channels + at[3], *bottom = x + (at[0] * height + row.hi) * width * channels + at[3];
    const auto blend = [&](int64_t c) {
      const float low = static_cast<float>(top[c]), high = static_cast<float>(bottom[c]);
      return low + (high - low) * row.fraction;
    };
    const float left = blend(column.lo * channels), right = blend(column.hi * channels);
    y[i] = left + (right - left) * column.fraction;
  }
};
template <class T>
void interpolate(const Resize& k, const Tap* taps, const Coordinates<4>& places, Stream& stream) {
  for_each(stream, k.y.count(), Interpolate<T>{k.x.as<T>(), k.y.f32(), taps, taps + k.y.dim(1), k.x.dim(1), k.x.dim(2), k.x.dim(3), places});
}

template <class T>
struct Pick {
  const T* x;
  T* y;
  const Tap *rows, *columns;
  int64_t height, width, channels;
  Coordinates<4> places;
  __device__ void operator()(int64_t i) const {
    int64_t at[4];
    places.find(i, at);
    y[i] = x[((at[0] * height + rows[at[1]].lo) * width + columns[at[2]].lo) * channels + at[3]];
  }
};
template <class T>
void pick(const Resize& k, const Tap* taps, const Coordinates<4>& places, Stream& stream) {
  for_each(stream, k.y.count(), Pick<T>{k.x.as<T>(), k.y.as<T>(), taps, taps + k.y.dim(1), k.x.dim(1), k.x.dim(2), k.x.dim(3), places});
}

/// The results [begin, end) along an axis that read a position.
struct Readers {
  int32_t begin, end;
};
/// Readers of each row of dx, then of each column; taps grow along an axis.
struct FindReaders {
  const Tap *rows, *columns;
  int64_t row_results, column_results, row_count;
  Readers* readers;
  __device__ void operator()(int64_t i) const {
    const bool is_row = i < row_count;
    const Tap* taps = is_row ? rows : columns;
    const int64_t at = is_row ? i : i - row_count, results = is_row ? row_results : column_results;
    const int64_t begin = first_not(results, [&](int64_t n) { return taps[n].hi < at; }), end = first_not(results, [&](int64_t n) { return taps[n].lo <= at; });
    readers[i] = {static_cast<int32_t>(begin), static_cast<int32_t>(end)};
  }
};

/// What a sample with this tap takes of position `at`.
SIMMIM_DEVICE float share(Tap tap, int64_t at, bool nearest) {
  const float low = tap.lo == at ? 1 - tap.fraction : 0;
  return tap.hi == at && !nearest ? low + tap.fraction : low;
}

/// Values of dx [B, H, W, C] from dy [B, P, Q, C].
struct GatherReaders {
  const float* dy;
  float* dx;
  const Tap *rows, *columns;
  const Readers *row_readers, *column_readers;
  int64_t height, width, channels;  // of dy
  bool nearest;
  Coordinates<4> places;
  __device__ void operator()(int64_t i) const {
    int64_t at[4];
    places.find(i, at);
    const Readers over = row_readers[at[1]], along = column_readers[at[2]];
    float sum = 0;
    for (int64_t p = over.begin; p < over.end; p++) {
      const float* line = dy + (at[0] * height + p) * width * channels + at[3];
      float part = 0;
      for (int64_t q = along.begin; q < along.end; q++) part += line[q * channels] * share(columns[q], at[2], nearest);
      sum += part * share(rows[p], at[1], nearest);
    }
    dx[i] = sum;
  }
};

Coordinates<4> places_of(const Tensor& t) { return Coordinates<4>({t.dim(0), t.dim(1), t.dim(2), t.dim(3)}); }

}  // namespace

void run(const Resize& k, Stream& stream) {
  if (k.y.count() == 0) return;
  const Tap* taps = make_taps(k.x, k.y, k.align_corners, k.half_pixel_centers, k.nearest, k.workspace, stream);
  const Coordinates<4> places = places_of(k.y);
  switch (k.x.dtype) {
    case DType::f32: return k.nearest ? pick<uint32_t>(k, taps, places, stream) : interpolate<float>(k, taps, places, stream);
    case DType::i32: return k.nearest ? pick<uint32_t>(k, taps, places, stream) : interpolate<int32_t>(k, taps, places, stream);
    default: return k.nearest ? pick<uint8_t>(k, taps, places, stream) : interpolate<uint8_t>(k, taps, places, stream);
  }
}

void run(const ResizeGrad& k, Stream& stream) {
  if (k.dx.count() == 0) return;
  const int64_t h = k.dx.dim(1), w = k.dx.dim(2), p = k.dy.dim(1), q = k.dy.dim(2);
  const Tap *rows = make_taps(k.dx, k.dy, k.align_corners, k.half_pixel_centers, k.nearest, k.workspace, stream), *columns = rows + p;
  auto* readers = reinterpret_cast<Readers*>(static_cast<char*>(k.workspace) + k.tap_bytes());
  for_each(stream, h + w, FindReaders{rows, columns, p, q, h, readers});
  for_each(stream, k.dx.count(), GatherReaders{k.dy.f32(), k.dx.f32(), rows, columns, readers, readers + h, p, q, k.dx.dim(3), k.nearest, places_of(k.dx)});
}

}  // namespace simmim::cuda
