#include "resize.h"

#include "../cpu/bisect.h"
#include "../cpu/thread_pool.h"
#include "sample_lines.h"

namespace simmim::SIMMIM_ISA {

namespace {

/// Calls f(group, line) for the lines of every group, groups in parallel.
template <class F>
SIMMIM_INLINE void each_line(int64_t lines, int64_t groups, const F& f) {
  parallel_for(groups, [&](int64_t group) {
    for (int64_t r = group * lines / groups; r < (group + 1) * lines / groups; r++) f(group, r);
  });
}

template <class T>
void interpolate(const Resize& k) {
  const int64_t h = k.x.dim(1), w = k.x.dim(2), c = k.x.dim(3), p = k.y.dim(1), q = k.y.dim(2), line = k.line();
  const ResizeAxis rows(h, p, k.align_corners, k.half_pixel_centers, false), columns(w, q, k.align_corners, k.half_pixel_centers, false);
  float* lines = static_cast<float*>(k.workspace);
  SampleTable table(q, c, lines + k.groups() * line);
  for (int64_t i = 0; i < q; i++) table.set(i, columns[i]);
  each_line(k.y.dim(0) * p, k.groups(), [&](int64_t group, int64_t r) {
    const Tap tap = rows[r % p];
    const T* image = k.x.as<T>() + r / p * h * line;
    blend_lines(image + tap.lo * line, image + tap.hi * line, tap.fraction, false, 0, line, lines + group * line);
    sample_line(lines + group * line, table, false, 0, k.y.f32() + r * q * c);
  });
}

template <class T>
void pick(const Resize& k) {
  const int64_t h = k.x.dim(1), w = k.x.dim(2), c = k.x.dim(3), p = k.y.dim(1), q = k.y.dim(2);
  const ResizeAxis rows(h, p, k.align_corners, k.half_pixel_centers, true), columns(w, q, k.align_corners, k.half_pixel_centers, true);
  int32_t* from = static_cast<int32_t*>(k.workspace);
  for (int64_t i = 0; i < q; i++) from[i] = static_cast<int32_t>(columns[i].lo);
  each_line(k.y.dim(0) * p, k.groups(), [&](int64_t, int64_t r) {
    const T* x = k.x.as<T>() + (r / p * h + rows[r % p].lo) * w * c;
    T* y = k.y.as<T>() + r * q * c;
    if (c >= 16) {
      for (int64_t i = 0; i < q; i++) __builtin_memcpy(y + i * c, x + from[i] * c, static_cast<size_t>(c) * sizeof(T));
    } else {
      for (int64_t i = 0; i < q; i++)
        for (int64_t j = 0; j < c; j++) y[i * c + j] = x[from[i] * c + j];
    }
  });
}

/// to += from * factor
SIMMIM_INLINE void add_scaled(float* to, const float* from, float factor, int64_t n) {
  for_lanes(n, [&](int64_t i, int lanes) { store_lanes(to + i, fma(load_lanes(from + i, lanes), splat(factor), load_lanes(to + i, lanes)), lanes); });
}

/// Sum of the lines of one picture of dy that read line `row` of x, weighted; taps grow along the picture.
void gather_lines(const float* dy, const Tap* taps, int64_t p, int64_t row, bool nearest, int64_t n, float* line) {
  __builtin_memset(line, 0, static_cast<size_t>(n) * 4);
  const int64_t first = first_not(p, [&](int64_t i) { return taps[i].hi < row; });  // whose upper tap is `row` or lies behind it
  for (int64_t i = first; i < p && taps[i].lo <= row; i++) {
    if (taps[i].lo == row) add_scaled(line, dy + i * n, 1 - taps[i].fraction, n);
    if (taps[i].hi == row && !nearest) add_scaled(line, dy + i * n, taps[i].fraction, n);
  }
}

/// dx [W, C] += what each sample of line [Q, C] took from it.
void scatter_line(const float* line, const Tap* taps, int64_t q, int64_t c, bool nearest, float* dx) {
  if (c >= 8) {
    for (int64_t i = 0; i < q; i++) {
      add_scaled(dx + taps[i].lo * c, line + i * c, 1 - taps[i].fraction, c);
      if (!nearest) add_scaled(dx + taps[i].hi * c, line + i * c, taps[i].fraction, c);
    }
    return;
  }
  for (int64_t i = 0; i < q; i++) {
    const float high = taps[i].fraction, low = 1 - high;
    float *a = dx + taps[i].lo * c, *b = dx + taps[i].hi * c;
    for (int64_t j = 0; j < c; j++) {
      const float v = line[i * c + j];
      a[j] += v * low;
      if (!nearest) b[j] += v * high;
    }
  }
}

}  // namespace

void run(const Resize& k) {
  if (k.y.count() == 0) return;
  switch (k.x.dtype) {
    case DType::f32: return k.nearest ? pick<uint32_t>(k) : interpolate<float>(k);
    case DType::i32: return k.nearest ? pick<uint32_t>(k) : interpolate<int32_t>(k);
    default: return k.nearest ? pick<uint8_t>(k) : interpolate<uint8_t>(k);
  }
}

void run(const ResizeGrad& k) {
  if (k.dx.count() == 0) return;
  const int64_t h = k.dx.dim(1), w = k.dx.dim(2), c = k.dx.dim(3), p = k.dy.dim(1), q = k.dy.dim(2), line = k.line();
  const ResizeAxis rows(h, p, k.align_corners, k.half_pixel_centers, k.nearest), columns(w, q, k.align_corners, k.half_pixel_centers, k.nearest);
  float* lines = static_cast<float*>(k.workspace);
  Tap *row_taps = reinterpret_cast<Tap*>(lines + k.groups() * line), *column_taps = row_taps + p;
  for (int64_t i = 0; i < p; i++) row_taps[i] = rows[i];
  for (int64_t i = 0; i < q; i++) column_taps[i] = columns[i];
  each_line(k.dx.dim(0) * h, k.groups(), [&](int64_t group, int64_t r) {
    float* dx = k.dx.f32() + r * w * c;
    __builtin_memset(dx, 0, static_cast<size_t>(w * c) * 4);
    gather_lines(k.dy.f32() + r / h * p * line, row_taps, p, r % h, k.nearest, line, lines + group * line);
    scatter_line(lines + group * line, column_taps, q, c, k.nearest, dx);
  });
}

}  // namespace simmim::SIMMIM_ISA
