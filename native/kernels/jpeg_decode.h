// Baseline JPEG to RGB, the bits of libjpeg-turbo with its default settings (integer "islow" inverse DCT,
// triangle-filter chroma upsampling, 16-bit fixed-point colour conversion), and only the rows and columns
// of a crop: blocks outside are entropy-decoded but not transformed, rows below are not decoded at all.
//
// For 8-bit Huffman-coded sequential pictures, grey or YCbCr 4:4:4, 4:2:2 or 4:2:0, in one scan. Anything else
// (progressive, CMYK, damaged, truncated, ...) gives status 1 and undefined pixels: the caller takes its
// general decoder, which is also the one to say what is wrong. Runs on the calling thread.
// Bytes: read the file, write 4 * H * W; the workspace holds the planes.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct JpegDecode {
  static constexpr const char* name = "jpeg_decode";
  Tensor bytes;   // [n], the file (or more: only `length` bytes count)
  Tensor pixels;  // [H, W, 4], RGBX
  Tensor status;  // [1], 0 decoded, 1 not for this decoder
  int32_t length;
  int32_t image_height, image_width;  // as the file's frame header says; status 1 when it says otherwise
  int32_t top, left;                  // of the H x W crop
  void* workspace = nullptr;

  static auto spec() {
    return fields(in("bytes", &JpegDecode::bytes, kU8), out("pixels", &JpegDecode::pixels, kU8), out("status", &JpegDecode::status, kI32),
                  par("length", &JpegDecode::length), par("image_height", &JpegDecode::image_height), par("image_width", &JpegDecode::image_width),
                  par("top", &JpegDecode::top), par("left", &JpegDecode::left));
  }

  void check() const {
    require(length >= 0 && length <= bytes.count(), "length is %d, but bytes has %lld", length, static_cast<long long>(bytes.count()));
    require(image_height > 0 && image_width > 0 && image_height <= 65535 && image_width <= 65535, "image is %d x %d, expected sides of 1 to 65535", image_height, image_width);
    require(pixels.shape.rank == 3 && pixels.dim(2) == 4 && pixels.dim(0) > 0 && pixels.dim(1) > 0, "pixels must be [H, W, 4] and not empty");
    require(top >= 0 && left >= 0 && top + pixels.dim(0) <= image_height && left + pixels.dim(1) <= image_width,
            "crop (top %d, left %d, %lld x %lld) must lie inside the image of %d x %d (height x width)", top, left, static_cast<long long>(pixels.dim(0)),
            static_cast<long long>(pixels.dim(1)), image_height, image_width);
    require(status.count() == 1, "status has %lld elements, expected 1", static_cast<long long>(status.count()));
  }

  SIMMIM_INLINE int64_t padded_width() const { return (image_width + 31) / 16 * 16; }
  SIMMIM_INLINE int64_t padded_height() const { return (image_height + 15) / 16 * 16; }
  /// Three planes of whole 16 x 16 units, and two upsampled chroma rows.
  size_t workspace_bytes() const { return static_cast<size_t>(3 * padded_width() * padded_height() + 2 * (padded_width() + 64) + 256); }
};

}  // namespace simmim
