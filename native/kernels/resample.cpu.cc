#include "resample.h"

#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {
namespace {

constexpr int kPrecisionBits = 22;             // 32, minus 8 of the pixel, minus 2 for overshooting sums
constexpr int32_t kHalf = 1 << (kPrecisionBits - 1);
constexpr int kRows = kLanes / 4;              // source rows filtered side by side, four lanes (RGBX) each

typedef uint8_t Bytes __attribute__((vector_size(kLanes)));
typedef Bytes UnalignedBytes __attribute__((aligned(1), may_alias));
typedef uint32_t Word __attribute__((aligned(1), may_alias));

/// Output i reads `count[i]` pixels from `first[i]` on, weights from i * taps on.
struct AxisFilter {
  int32_t* first;
  int32_t* count;
  int32_t* weights;
  int64_t taps;
};

/// Keeps the compiler from fusing a product into the next sum: Pillow rounds each operation.
SIMMIM_INLINE double rounded(double v) {
  __asm__("" : "+m"(v));
  return v;
}

SIMMIM_INLINE double weight_at(double x, bool cubic) {
  x = x < 0 ? -x : x;
  if (!cubic) return x < 1 ? 1 - x : 0;
  constexpr double a = -0.5;
  if (x < 1) return rounded(rounded(rounded(rounded((a + 2) * x) - (a + 3)) * x) * x) + 1;
  return x < 2 ? rounded(rounded(rounded(rounded((x - 5) * x) + 8) * x) - 4) * a : 0;
}

void make_filter(const AxisFilter& f, int64_t in, int64_t out, int64_t from, int64_t length, bool cubic) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double filter_scale = scale > 1 ? scale : 1;
  const double support = (cubic ? 2 : 1) * filter_scale;
  const double step = 1 / filter_scale;
  for (int64_t i = 0; i < length; i++) {
    const double center = rounded((static_cast<double>(from + i) + 0.5) * scale);
    int64_t low = static_cast<int64_t>(center - support + 0.5), high = static_cast<int64_t>(center + support + 0.5);
    if (low < 0) low = 0;
    if (high > in) high = in;
    const int64_t n = high - low < f.taps ? high - low : f.taps;
    double total = 0;
    for (int64_t k = 0; k < n; k++) total += rounded(weight_at(rounded((static_cast<double>(k + low) - center + 0.5) * step), cubic));
    int32_t* w = f.weights + i * f.taps;
    for (int64_t k = 0; k < n; k++) {
      const double exact = weight_at(rounded((static_cast<double>(k + low) - center + 0.5) * step), cubic);
      const double share = total == 0 ? 0 : rounded(exact / total);
      w[k] = static_cast<int32_t>((share < 0 ? -0.5 : 0.5) + rounded(share * (1 << kPrecisionBits)));
    }
    f.first[i] = static_cast<int32_t>(low);
    f.count[i] = static_cast<int32_t>(n);
  }
}

SIMMIM_INLINE IVec clip8(IVec sum) {
  const IVec v = sum >> kPrecisionBits;
  const IVec positive = v < 0 ? IVec{} : v;
  return positive > 255 ? splat(255) : positive;
}

/// RGBX words of kRows source rows, [box_width][kRows]; a missing row repeats the last one.
void gather_rows(const Resample& k, int64_t row, uint32_t* group) {
  const int64_t channels = k.pixels.dim(2), stride = k.pixels.dim(1) * channels, width = k.box_width;
  for (int r = 0; r < kRows; r++) {
    const int64_t y = row + r < k.box_height ? row + r : k.box_height - 1;
    const uint8_t* p = k.pixels.u8() + (k.top + y) * stride + k.left * channels;
    if (channels == 4) {
      for (int64_t x = 0; x < width; x++) group[x * kRows + r] = *reinterpret_cast<const Word*>(p + x * 4);
    } else {
      for (int64_t x = 0; x + 1 < width; x++) group[x * kRows + r] = *reinterpret_cast<const Word*>(p + x * 3);
      const uint8_t* last = p + (width - 1) * 3;  // reading four bytes here could leave the tensor
      group[(width - 1) * kRows + r] = last[0] | last[1] << 8 | last[2] << 16;
    }
  }
}

/// rows [box_height][W] RGBX; only [from, to) are made.
void horizontal(const Resample& k, const AxisFilter& f, int64_t from, int64_t to, uint32_t* group, uint32_t* rows) {
  const int64_t width = k.y.dim(2);
  for (int64_t row = from; row < to; row += kRows) {
    gather_rows(k, row, group);
    const int64_t wanted = to - row < kRows ? to - row : kRows;
    for (int64_t x = 0; x < width; x++) {
      const int32_t* w = f.weights + x * f.taps;
      const uint8_t* source = reinterpret_cast<const uint8_t*>(group + int64_t{f.first[x]} * kRows);
      IVec sum = splat(kHalf);
      for (int32_t n = f.count[x], t = 0; t < n; t++) sum += __builtin_convertvector(*reinterpret_cast<const UnalignedBytes*>(source + t * kLanes), IVec) * w[t];
      const Bytes packed = __builtin_convertvector(clip8(sum), Bytes);
      uint32_t words[kRows];
      __builtin_memcpy(words, &packed, sizeof words);
      for (int64_t r = 0; r < wanted; r++) rows[(row + r) * width + x] = words[r];
    }
  }
}

SIMMIM_INLINE void store_planar(const Resample& k, const uint32_t* line, int64_t row) {
  const int64_t width = k.y.dim(2), plane = k.y.dim(1) * width;
  const float* table = k.table.f32();
  float* red = k.y.f32() + row * width;
  float* green = red + plane;
  float* blue = green + plane;
  const int64_t step = k.flip ? -1 : 1;
  int64_t target = k.flip ? width - 1 : 0;
  for (int64_t x = 0; x < width; x++, target += step) {
    const uint32_t pixel = line[x];
    red[target] = table[pixel & 255];
    green[target] = table[256 + (pixel >> 8 & 255)];
    blue[target] = table[512 + (pixel >> 16 & 255)];
  }
}

void vertical(const Resample& k, const AxisFilter& f, const uint32_t* rows, uint32_t* line) {
  const int64_t width = k.y.dim(2), bytes = width * 4, height = k.y.dim(1);
  for (int64_t row = 0; row < height; row++) {
    const int32_t* w = f.weights + row * f.taps;
    const int32_t n = f.count[row];
    const uint8_t* source = reinterpret_cast<const uint8_t*>(rows + int64_t{f.first[row]} * width);
    uint8_t* target = reinterpret_cast<uint8_t*>(line);
    int64_t at = 0;
    for (; at + kLanes <= bytes; at += kLanes) {
      IVec sum = splat(kHalf);
      for (int32_t t = 0; t < n; t++) sum += __builtin_convertvector(*reinterpret_cast<const UnalignedBytes*>(source + t * bytes + at), IVec) * w[t];
      *reinterpret_cast<UnalignedBytes*>(target + at) = __builtin_convertvector(clip8(sum), Bytes);
    }
    for (; at < bytes; at++) {
      int32_t sum = kHalf;
      for (int32_t t = 0; t < n; t++) sum += source[t * bytes + at] * w[t];
      const int32_t v = sum >> kPrecisionBits;
      target[at] = static_cast<uint8_t>(v < 0 ? 0 : v > 255 ? 255 : v);
    }
    store_planar(k, line, row);
  }
}

}  // namespace

void run(const Resample& k) {
  const int64_t width = k.y.dim(2), height = k.y.dim(1);
  int32_t* at = static_cast<int32_t*>(k.workspace);
  const auto take = [&](int64_t words) {
    int32_t* p = at;
    at += (words + 15) / 16 * 16;
    return p;
  };
  AxisFilter x{nullptr, nullptr, nullptr, Resample::taps(k.box_width, k.resized_width, k.bicubic)};
  AxisFilter y{nullptr, nullptr, nullptr, Resample::taps(k.box_height, k.resized_height, k.bicubic)};
  x.first = take(width), x.count = take(width), x.weights = take(width * x.taps);
  y.first = take(height), y.count = take(height), y.weights = take(height * y.taps);
  uint32_t* group = reinterpret_cast<uint32_t*>(take(int64_t{k.box_width} * kRows));
  uint32_t* line = reinterpret_cast<uint32_t*>(take(width));
  uint32_t* rows = reinterpret_cast<uint32_t*>(take(int64_t{k.box_height} * width));
  make_filter(x, k.box_width, k.resized_width, k.window_left, width, k.bicubic);
  make_filter(y, k.box_height, k.resized_height, k.window_top, height, k.bicubic);
  horizontal(k, x, y.first[0], y.first[height - 1] + y.count[height - 1], group, rows);
  vertical(k, y, rows, line);
}

}  // namespace simmim::SIMMIM_ISA
