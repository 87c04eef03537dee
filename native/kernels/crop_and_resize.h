// Boxes cut out of pictures and resized to one size, channels last, as TensorFlow defines it: box n is (y1, x1, y2, x2) in units
// of the picture's height - 1 and width - 1, taken from picture box_index[n]; row p of the crop reads row
// y1 (H - 1) + p (y2 - y1) (H - 1) / (P - 1) (the middle of the box where P is 1), columns likewise, interpolated or nearest.
// `fill` outside the picture, zeros for a box of no picture. Parallel over groups of lines; a line is two lines of the picture
// blended where the box reads them and then sampled, as in resize.h; a GPU makes the taps of all boxes first and then has a thread
// for each value of y. Bytes: the lines read and y once.
#pragma once
#include "resize.h"

namespace simmim {

/// One axis of a box from `low` to `high` over a picture of `in` positions.
struct BoxAxis {
  int64_t in, out;
  double low, high, scale;
  bool nearest;
  SIMMIM_INLINE BoxAxis(float from, float to, int64_t size, int64_t steps, bool round) : in(size), out(steps), low(from), high(to), nearest(round) {
    scale = steps > 1 ? rounded_product(high - low, static_cast<double>(size - 1)) / static_cast<double>(steps - 1) : 0;
  }
  SIMMIM_INLINE Tap operator[](int64_t i) const {
    const double last = static_cast<double>(in - 1);
    const double at = out > 1 ? rounded_product(low, last) + rounded_product(static_cast<double>(i), scale) : rounded_product(0.5 * (low + high), last);
    if (!(at >= 0 && at <= last)) return {-1, 0, 0};
    return nearest ? tap_at(round_half_up(at), in) : tap_at(at, in);
  }
};

struct CropAndResize {
  static constexpr const char* name = "crop_and_resize";
  Tensor x, boxes, box_index, y;  // [B, H, W, C], [N, 4], [N], [N, P, Q, C]
  bool nearest;
  float fill;
  void* workspace = nullptr;
  static auto spec() {
    return fields(in("x", &CropAndResize::x, kF32 | kI32 | kU8), in("boxes", &CropAndResize::boxes, kF32), in("box_index", &CropAndResize::box_index, kI32), out("y", &CropAndResize::y, kF32), par("nearest", &CropAndResize::nearest), par("fill", &CropAndResize::fill));
  }
  void check() const {
    require(x.shape.rank == 4 && y.shape.rank == 4 && boxes.shape.rank == 2 && box_index.shape.rank == 1, "x, boxes, box_index, y have ranks %d, %d, %d, %d, expected 4, 2, 1, 4", x.shape.rank, boxes.shape.rank, box_index.shape.rank, y.shape.rank);
    require(boxes.dim(0) == y.dim(0) && boxes.dim(1) == 4 && box_index.dim(0) == y.dim(0), "boxes is [%lld, %lld] and box_index [%lld], expected [%lld, 4] and [%lld]", static_cast<long long>(boxes.dim(0)), static_cast<long long>(boxes.dim(1)), static_cast<long long>(box_index.dim(0)),
            static_cast<long long>(y.dim(0)), static_cast<long long>(y.dim(0)));
    require(y.dim(3) == x.dim(3), "y has %lld channels, expected %lld", static_cast<long long>(y.dim(3)), static_cast<long long>(x.dim(3)));
    require(line() < (int64_t{1} << 31), "a line of x has %lld values, at most 2^31 are supported", static_cast<long long>(line()));
    require(x.count() > 0 || y.count() == 0, "x has no pixels, y is %lld x %lld", static_cast<long long>(y.dim(1)), static_cast<long long>(y.dim(2)));
  }
  SIMMIM_INLINE int64_t groups() const { return line_groups(y.dim(0) * y.dim(1), y.dim(2) * y.dim(3)); }
  SIMMIM_INLINE int64_t line() const { return x.dim(2) * x.dim(3); }
  /// Per group a line and the taps of one box.
  SIMMIM_INLINE int64_t scratch() const { return line() + 3 * y.dim(2) * y.dim(3); }
  size_t workspace_bytes() const { return static_cast<size_t>(groups() * scratch()) * 4; }
  /// The taps of the rows and columns of every box.
  size_t cuda_workspace_bytes() const { return static_cast<size_t>(y.dim(0) * (y.dim(1) + y.dim(2))) * sizeof(Tap); }
};

}  // namespace simmim
