// Resizing the height and width of pictures, channels last, as tfjs defines it, and its gradient:
//   y[b, p, q, :] = (1 - u)(1 - v) x[b, i, j, :] + (1 - u) v x[b, i, j', :] + u (1 - v) x[b, i', j, :] + u v x[b, i', j', :]
// where (i, i', u) and (j, j', v) are the taps of p and q (sampling.h); or the nearest x[b, i, j, :] itself.
// Each line of y is two lines of x blended and then sampled along the width; the gradient takes the same steps backwards.
// Parallel over groups of lines; on a GPU over values, the gradient gathering from the results that read each. Bytes: x and y once; about 6 flops per element of y.
#pragma once
#include "sampling.h"

namespace simmim {

inline void check_resize(const Tensor& x, const Tensor& y) {
  require(x.shape.rank == 4 && y.shape.rank == 4, "x and y have ranks %d and %d, expected 4", x.shape.rank, y.shape.rank);
  require(x.dim(0) == y.dim(0) && x.dim(3) == y.dim(3), "y has a batch of %lld and %lld channels, x %lld and %lld", static_cast<long long>(y.dim(0)), static_cast<long long>(y.dim(3)), static_cast<long long>(x.dim(0)), static_cast<long long>(x.dim(3)));
  require(x.dim(2) * x.dim(3) < (int64_t{1} << 31), "a line of x has %lld values, at most 2^31 are supported", static_cast<long long>(x.dim(2) * x.dim(3)));
  require(x.count() > 0 || y.count() == 0, "x has no pixels, y is %lld x %lld", static_cast<long long>(y.dim(1)), static_cast<long long>(y.dim(2)));
}

/// Groups of lines that share scratch memory; depends on the shape alone.
SIMMIM_INLINE int64_t line_groups(int64_t lines, int64_t line) {
  const int64_t enough = 16384 / (line + 1) + 1, groups = (lines + enough - 1) / enough;
  return groups < 64 ? groups : 64;
}

struct Resize {
  static constexpr const char* name = "resize";
  Tensor x, y;  // [B, H, W, C], [B, P, Q, C]
  bool align_corners, half_pixel_centers, nearest;
  void* workspace = nullptr;
  static auto spec() {
    return fields(in("x", &Resize::x, kF32 | kI32 | kU8), out("y", &Resize::y, kF32 | kI32 | kU8), par("align_corners", &Resize::align_corners), par("half_pixel_centers", &Resize::half_pixel_centers), par("nearest", &Resize::nearest));
  }
  void check() const {
    check_resize(x, y);
    require(nearest ? y.dtype == x.dtype : y.dtype == DType::f32, "y is %s, expected %s", name_of(y.dtype), nearest ? name_of(x.dtype) : "f32");
  }
  SIMMIM_INLINE int64_t groups() const { return line_groups(y.dim(0) * y.dim(1), y.dim(2) * y.dim(3)); }
  /// A blended line per group, and the taps of the width.
  SIMMIM_INLINE int64_t line() const { return x.dim(2) * x.dim(3); }
  size_t workspace_bytes() const { return nearest ? static_cast<size_t>(y.dim(2)) * 4 : static_cast<size_t>(groups() * line() + 3 * y.dim(2) * y.dim(3)) * 4; }
  /// The taps of both axes.
  size_t cuda_workspace_bytes() const { return static_cast<size_t>(y.dim(1) + y.dim(2)) * sizeof(Tap); }
};

struct ResizeGrad {
  static constexpr const char* name = "resize_grad";
  Tensor dy, dx;  // [B, P, Q, C], [B, H, W, C]
  bool align_corners, half_pixel_centers, nearest;
  void* workspace = nullptr;
  static auto spec() {
    return fields(in("dy", &ResizeGrad::dy, kF32), out("dx", &ResizeGrad::dx, kF32), par("align_corners", &ResizeGrad::align_corners), par("half_pixel_centers", &ResizeGrad::half_pixel_centers), par("nearest", &ResizeGrad::nearest));
  }
  void check() const { check_resize(dx, dy); }
  SIMMIM_INLINE int64_t groups() const { return line_groups(dx.dim(0) * dx.dim(1), dx.dim(2) * dx.dim(3)); }
  SIMMIM_INLINE int64_t line() const { return dy.dim(2) * dy.dim(3); }
  /// A sum of lines of dy per group, and the taps of both axes.
  size_t workspace_bytes() const { return static_cast<size_t>(groups() * line() + 3 * (dy.dim(1) + dy.dim(2))) * 4; }
  /// The taps of both axes, and which results read each position of dx, as two numbers.
  SIMMIM_INLINE size_t tap_bytes() const { return static_cast<size_t>(dy.dim(1) + dy.dim(2)) * sizeof(Tap); }
  size_t cuda_workspace_bytes() const { return tap_bytes() + static_cast<size_t>(dx.dim(1) + dx.dim(2)) * 8; }
};

}  // namespace simmim
