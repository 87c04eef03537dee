// Turning and warping pictures, channels last.
//   transform  y[b, p, q, :] = x[b] at ((t0 q + t1 p + t2) / n, (t3 q + t4 p + t5) / n) as (column, row), n = t6 q + t7 p + 1,
//              interpolated or nearest; outside the picture the coordinates are mapped back (`fill_mode`) or `fill` is read, as
//              TensorFlow's ImageProjectiveTransformV3 defines it
//   rotate     y[b, p, q, :] = the pixel of x[b] nearest to (q, p) turned by the angle round the centre, fill[c] outside
// Integers are truncated. Parallel over lines of y. Bytes: y once, and what it reads of x; about 20 flops per pixel.
#pragma once
#include "picture.h"

namespace simmim {

inline void check_picture_pair(const Tensor& x, const Tensor& y) {
  require(x.shape.rank == 4 && y.shape.rank == 4, "x and y have ranks %d and %d, expected 4", x.shape.rank, y.shape.rank);
  require(x.dtype == y.dtype, "y is %s, expected %s like x", name_of(y.dtype), name_of(x.dtype));
  require(x.dim(0) == y.dim(0) && x.dim(3) == y.dim(3), "y has a batch of %lld and %lld channels, x %lld and %lld", static_cast<long long>(y.dim(0)), static_cast<long long>(y.dim(3)), static_cast<long long>(x.dim(0)), static_cast<long long>(x.dim(3)));
}

struct Transform {
  static constexpr const char* name = "transform";
  static constexpr const char* ops = "constant reflect wrap nearest ";
  Tensor x, transforms, y;  // [B, H, W, C], [B or 1, 8], [B, P, Q, C]
  int32_t op;               // FillMode
  bool nearest;
  float fill;
  static auto spec() {
    return fields(in("x", &Transform::x, kF32 | kI32 | kU8), in("transforms", &Transform::transforms, kF32), out("y", &Transform::y, kF32 | kI32 | kU8), par("op", &Transform::op), par("nearest", &Transform::nearest), par("fill", &Transform::fill));
  }
  void check() const {
    check_picture_pair(x, y);
    require(op >= 0 && op < kFillModes, "op is %d, expected 0 to %d", op, kFillModes - 1);
    require(transforms.shape.rank == 2 && transforms.dim(1) == 8 && (transforms.dim(0) == 1 || transforms.dim(0) == x.dim(0)), "transforms has %lld values, expected [1 or %lld, 8]", static_cast<long long>(transforms.count()), static_cast<long long>(x.dim(0)));
  }
};

struct Rotate {
  static constexpr const char* name = "rotate";
  Tensor x, fill, y;  // [B, H, W, C], [C], [B, H, W, C]
  double sine, cosine, center_x, center_y;
  void* workspace = nullptr;
  static auto spec() {
    return fields(in("x", &Rotate::x, kF32 | kI32 | kU8), in("fill", &Rotate::fill, kF32), out("y", &Rotate::y, kF32 | kI32 | kU8), par("sine", &Rotate::sine), par("cosine", &Rotate::cosine), par("center_x", &Rotate::center_x), par("center_y", &Rotate::center_y));
  }
  void check() const {
    check_picture_pair(x, y);
    require(x.shape == y.shape, "y must have the shape of x");
    require(fill.count() == x.dim(3), "fill has %lld values, expected %lld, one per channel", static_cast<long long>(fill.count()), static_cast<long long>(x.dim(3)));
  }
  /// Per column (q - centre) times cosine and sine.
  size_t workspace_bytes() const { return static_cast<size_t>(x.dim(2)) * 2 * sizeof(double); }
  /// The same for rows as well.
  size_t cuda_workspace_bytes() const { return static_cast<size_t>(x.dim(1) + x.dim(2)) * 2 * sizeof(double); }
};

}  // namespace simmim
