#include "crop_and_resize.h"

#include "../cpu/thread_pool.h"
#include "sample_lines.h"

namespace simmim::SIMMIM_ISA {

namespace {

SIMMIM_INLINE void fill_line(float* y, int64_t n, float value) {
  for (int64_t i = 0; i < n; i++) y[i] = value;
}

/// What a group of lines keeps while it stays in one box.
template <class T>
struct BoxLines {
  const CropAndResize& k;
  float* line;
  SampleTable table;
  int64_t box = -1, first = 0, after = 0;  // columns [first, after) are read

  BoxLines(const CropAndResize& kernel, float* scratch) : k(kernel), line(scratch), table(k.y.dim(2), k.y.dim(3), scratch + k.line()) {}

  void enter(int64_t n) {
    box = n;
    const int64_t w = k.x.dim(2);
    const BoxAxis columns(k.boxes.f32()[n * 4 + 1], k.boxes.f32()[n * 4 + 3], w, k.y.dim(2), k.nearest);
    first = w, after = 0;
    for (int64_t i = 0; i < table.count; i++) {
      const Tap tap = columns[i];
      table.set(i, tap);
      if (tap.lo < 0) continue;
      if (tap.lo < first) first = tap.lo;
      if (tap.hi >= after) after = tap.hi + 1;
    }
  }
  void make(int64_t r) {
    const int64_t p = k.y.dim(1), c = k.y.dim(3), n = r / p, count = table.count * c, index = k.box_index.i32()[n];
    float* y = k.y.f32() + r * count;
    if (index < 0 || index >= k.x.dim(0)) return fill_line(y, count, 0);
    if (n != box) enter(n);
    const Tap tap = BoxAxis(k.boxes.f32()[n * 4], k.boxes.f32()[n * 4 + 2], k.x.dim(1), p, k.nearest)[r % p];
    if (tap.lo < 0 || first >= after) return fill_line(y, count, k.fill);
    const T* image = k.x.as<T>() + index * k.x.dim(1) * k.line();
    blend_lines(image + tap.lo * k.line(), image + tap.hi * k.line(), tap.fraction, k.nearest, first * c, after * c, line);
    sample_line(line, table, k.nearest, k.fill, y);
  }
};

template <class T>
void crop(const CropAndResize& k) {
  const int64_t lines = k.y.dim(0) * k.y.dim(1), groups = k.groups();
  parallel_for(groups, [&](int64_t group) {
    BoxLines<T> box(k, static_cast<float*>(k.workspace) + group * k.scratch());
    for (int64_t r = group * lines / groups; r < (group + 1) * lines / groups; r++) box.make(r);
  });
}

}  // namespace

void run(const CropAndResize& k) {
  if (k.y.count() == 0) return;
  switch (k.x.dtype) {
    case DType::f32: return crop<float>(k);
    case DType::i32: return crop<int32_t>(k);
    default: return crop<uint8_t>(k);
  }
}

}  // namespace simmim::SIMMIM_ISA
