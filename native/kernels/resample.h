// Crop, antialiased resize, flip and normalise of one decoded 8-bit picture, exactly as Pillow resizes:
//   rows   = clip8((sum_k wx[k] * box + half) >> 22)          horizontal pass, rounded to 8 bits
//   image  = clip8((sum_k wy[k] * rows + half) >> 22)         vertical pass, only the rows of the window
//   y      = table[channel, image], mirrored when flip        planar [3, H, W]
// wx, wy: triangle (support 1) or Keys' cubic (a = -0.5), widened when shrinking, as 22-bit fixed point.
// The definition is ts/data/resample.ts. Runs on the calling thread: loader threads call it side by side.
// Bytes: read box * channels, write 12 * H * W. Multiplications: about 2 * support * (box rows * W + H * W) * 3.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct Resample {
  static constexpr const char* name = "resample";
  Tensor pixels;  // [h, w, 3 or 4], RGB or RGBX
  Tensor table;   // [3, 256], the value of each 8-bit level
  Tensor y;       // [3, H, W]
  int32_t top, left, box_height, box_width;  // of the source, in pixels
  int32_t resized_height, resized_width;     // what the box becomes
  int32_t window_top, window_left;           // the H x W part of it that is made
  bool flip, bicubic;
  void* workspace = nullptr;

  static auto spec() {
    return fields(in("pixels", &Resample::pixels, kU8), in("table", &Resample::table, kF32), out("y", &Resample::y, kF32),
                  par("top", &Resample::top), par("left", &Resample::left), par("box_height", &Resample::box_height), par("box_width", &Resample::box_width),
                  par("resized_height", &Resample::resized_height), par("resized_width", &Resample::resized_width),
                  par("window_top", &Resample::window_top), par("window_left", &Resample::window_left), par("flip", &Resample::flip), par("bicubic", &Resample::bicubic));
  }

  static constexpr int32_t kMaxSide = 1 << 20;

  void check() const {
    require(pixels.shape.rank == 3 && (pixels.dim(2) == 3 || pixels.dim(2) == 4), "pixels has rank %d, expected [height, width, 3 or 4]", pixels.shape.rank);
    require(table.shape.rank == 2 && table.dim(0) == 3 && table.dim(1) == 256, "table must be [3, 256]");
    require(y.shape.rank == 3 && y.dim(0) == 3 && y.dim(1) > 0 && y.dim(2) > 0, "y must be [3, H, W] and not empty");
    require(top >= 0 && left >= 0 && box_height > 0 && box_width > 0 && int64_t{top} + box_height <= pixels.dim(0) && int64_t{left} + box_width <= pixels.dim(1),
            "box (top %d, left %d, %d x %d) must be a non-empty rectangle inside the pixels of %lld x %lld (height x width)", top, left, box_height, box_width,
            static_cast<long long>(pixels.dim(0)), static_cast<long long>(pixels.dim(1)));
    require(resized_height > 0 && resized_width > 0 && resized_height <= kMaxSide && resized_width <= kMaxSide && box_height <= kMaxSide && box_width <= kMaxSide,
            "sides must be 1 to %d, got a box of %d x %d resized to %d x %d", kMaxSide, box_height, box_width, resized_height, resized_width);
    require(window_top >= 0 && window_left >= 0 && window_top + y.dim(1) <= resized_height && window_left + y.dim(2) <= resized_width,
            "window (top %d, left %d, %lld x %lld) must lie inside the resized box of %d x %d (height x width)", window_top, window_left,
            static_cast<long long>(y.dim(1)), static_cast<long long>(y.dim(2)), resized_height, resized_width);
  }

  /// Most source pixels that one output pixel reads along an axis.
  static SIMMIM_INLINE int64_t taps(int64_t in, int64_t out, bool cubic) {
    const int64_t scaled = in > out ? ((cubic ? 2 : 1) * in + out - 1) / out : (cubic ? 2 : 1);
    return scaled * 2 + 3;
  }
  size_t workspace_bytes() const {
    const int64_t width = y.dim(2), height = y.dim(1);
    const int64_t filters = width * (taps(box_width, resized_width, bicubic) + 2) + height * (taps(box_height, resized_height, bicubic) + 2);
    const int64_t group = int64_t{box_width} * 4;   // four source rows at most, a pixel of each side by side
    const int64_t rows = int64_t{box_height} * width;  // of the horizontal pass, RGBX
    return static_cast<size_t>(filters + group + rows + width) * 4 + 1024;
  }
};

}  // namespace simmim
