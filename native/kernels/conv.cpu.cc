#include "conv.h"

#include "../cpu/gemm.h"
#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"
#include "conv_direct.h"

namespace simmim::SIMMIM_ISA {

void run(const Unary& k);

namespace {

void copy_floats(float* to, const float* from, int64_t n) { __builtin_memcpy(to, from, static_cast<size_t>(n) * 4); }
void clear_floats(float* to, int64_t n) { __builtin_memset(to, 0, static_cast<size_t>(n) * 4); }

/// Position number n of [B, P, Q, R].
struct Position {
  int64_t b, at[3];
  Position(int64_t n, const int64_t* extent) {
    for (int i = 2; i >= 0; i--) {
      at[i] = n % extent[i];
      n /= extent[i];
    }
    b = n;
  }
};

/// One line of taps along the width.
SIMMIM_INLINE void copy_line(const float* line, int64_t width, int64_t c, int64_t first, int64_t taps, int64_t dilation, float* to) {
  if (dilation == 1 && first >= 0 && first + taps <= width) return copy_floats(to, line + first * c, taps * c);
  for (int64_t k = 0; k < taps; k++, to += c) {
    const int64_t at = first + k * dilation;
    if (at >= 0 && at < width) copy_floats(to, line + at * c, c);
    else clear_floats(to, c);
  }
}

/// Rows [begin, end) of the patch matrix [B P Q R, KD KH KW C] of x; `extent` = (P, Q, R).
void lay_out_rows(const Tensor& x, const Window& w, const int64_t* extent, int64_t begin, int64_t end, float* out) {
  const int64_t depth = x.dim(1), height = x.dim(2), width = x.dim(3), c = x.dim(4), line = w.size[2] * c;
  for (int64_t r = begin; r < end; r++) {
    const Position p(r, extent);
    for (int64_t i = 0; i < w.size[0]; i++) {
      const int64_t z = w.source(0, p.at[0], i);
      for (int64_t j = 0; j < w.size[1]; j++, out += line) {
        const int64_t y = w.source(1, p.at[1], j);
        if (z < 0 || z >= depth || y < 0 || y >= height) clear_floats(out, line);
        else copy_line(x.f32() + ((p.b * depth + z) * height + y) * width * c, width, c, w.source(2, p.at[2], 0), w.size[2], w.dilation[2], out);
      }
    }
  }
}

/// The same for many rows.
void lay_out(const Tensor& x, const Window& w, const int64_t* extent, int64_t begin, int64_t rows, float* to) {
  const int64_t row_size = w.taps() * x.dim(4);
  parallel_ranges(rows, 8192 / (row_size + 1) + 1, [&](int64_t from, int64_t end) { lay_out_rows(x, w, extent, begin + from, begin + end, to + from * row_size); });
}

Gemm product(int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c) {
  Gemm g;
  g.m = m, g.n = n, g.k = k;
  g.a = a, g.lda = k;
  g.b = b, g.ldb = n;
  g.c = c, g.ldc = n;
  return g;
}

/// [taps, O, C] from [KD, KH, KW, C, O], in the order in which a class reads dy.
void turn_filter(const Tensor& filter, const GradientClass* axes, float* to) {
  const int64_t c = filter.dim(3), o = filter.dim(4);
  parallel_for(axes[0].taps * axes[1].taps * axes[2].taps, [&](int64_t t) {
    int64_t rest = t, tap[3];
    for (int i = 2; i >= 0; i--) {
      tap[i] = axes[i].last - rest % axes[i].taps * axes[i].tap_step;
      rest /= axes[i].taps;
    }
    const float* from = filter.f32() + ((tap[0] * filter.dim(1) + tap[1]) * filter.dim(2) + tap[2]) * c * o;
    for (int64_t j = 0; j < o; j++)
      for (int64_t i = 0; i < c; i++) to[(t * o + j) * c + i] = from[i * o + j];
  });
}

/// Rows [begin, end) of the results of windows over x, whose patches are laid out first unless x itself are these.
struct PatchProduct {
  const Tensor& x;
  const Window& w;
  const int64_t* extent;
  bool pointwise;
  int64_t depth, channels;
  const float *filter, *bias;

  void run(int64_t begin, int64_t end, float* patches, float* y) const {
    if (!pointwise) lay_out(x, w, extent, begin, end - begin, patches);
    Gemm g = product(end - begin, channels, depth, pointwise ? x.f32() + begin * depth : patches, filter, y);
    g.bias = bias;
    gemm(g);
  }
};

/// Writes rows from number `begin` on of one class to their places in dx.
void scatter_rows(const ConvInputGrad& k, const GradientClass* axes, const int64_t* extent, int64_t begin, int64_t rows, const float* block) {
  const int64_t c = k.dx.dim(4);
  for (int64_t r = 0; r < rows; r++) {
    const Position p(begin + r, extent);
    int64_t to = p.b;
    for (int i = 0; i < 3; i++) to = to * k.dx.dim(1 + i) + axes[i].first + p.at[i] * axes[i].step;
    copy_floats(k.dx.f32() + to * c, block + r * c, c);
  }
}

/// Gradient rows of all positions of one class per axis.
void input_grad_class(const ConvInputGrad& k, const GradientClass* axes) {
  const int64_t o = k.dy.dim(4), c = k.dx.dim(4), most = k.rows();
  int64_t extent[3], total = k.dx.dim(0);
  Window w;
  bool dense = true;
  for (int i = 0; i < 3; i++) {
    extent[i] = axes[i].count;
    total *= extent[i];
    w.size[i] = axes[i].taps, w.stride[i] = 1, w.dilation[i] = axes[i].dilation, w.pad[i] = axes[i].pad;
    dense = dense && axes[i].step == 1;
  }
  if (total * c == 0) return;
  const int64_t depth = w.taps() * o;
  float *filter = static_cast<float*>(k.workspace), *patches = filter + k.filter.count(), *block = patches + most * k.width();
  turn_filter(k.filter, axes, filter);
  if (k.direct()) {
    pack_filter(filter, depth, c, nullptr, patches);
    WindowProduct p(k.dy, w, extent, patches, k.dx);
    for (int i = 0; i < 3; i++) p.first[i] = axes[i].first, p.step[i] = axes[i].step;
    return p.run([](float*, int64_t) {});
  }
  const PatchProduct p{k.dy, w, extent, false, depth, c, filter, nullptr};
  for (int64_t begin = 0; begin < total; begin += most) {
    const int64_t rows = total - begin < most ? total - begin : most;
    p.run(begin, begin + rows, patches, dense ? k.dx.f32() + begin * c : block);
    if (!dense) parallel_ranges(rows, 8192 / c + 1, [&](int64_t from, int64_t end) { scatter_rows(k, axes, extent, begin + from, end - from, block + from * c); });
  }
}

/// The filter's gradient from rows [begin, end), added to `sums` or in their place.
void add_filter_rows(const ConvFilterGrad& k, int64_t begin, int64_t end, const float* patches, bool add, float* sums) {
  const int64_t o = k.dy.dim(4);
  Gemm g = product(k.width(), o, end - begin, patches, k.dy.f32() + begin * o, sums);
  g.lda = k.width();
  g.transpose_a = true;
  g.accumulate = add;
  gemm(g);
}

/// Every slice of the rows by one thread, block by block; then the sums of the slices are added in order.
void sum_slices(const ConvFilterGrad& k, const Window& w) {
  const int64_t rows = k.dy.shape.span(0, 4), width = k.width(), slices = k.slices(), most = block_rows(width), count = k.dfilter.count();
  float* sums = static_cast<float*>(k.workspace);
  parallel_for(slices, [&](int64_t s) {
    const int64_t first = rows * s / slices, last = rows * (s + 1) / slices;
    float* patches = gemm_buffer(GemmBuffer::patches, static_cast<size_t>(most * width));
    for (int64_t begin = first; begin < last; begin += most) {
      const int64_t end = last - begin < most ? last : begin + most;
      lay_out_rows(k.x, w, k.dy.shape.dims + 1, begin, end, patches);
      add_filter_rows(k, begin, end, patches, begin > first, sums + s * count);
    }
  });
  parallel_ranges(count, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      float total = sums[i];
      for (int64_t s = 1; s < slices; s++) total += sums[s * count + i];
      k.dfilter.f32()[i] = total;
    }
  });
}

}  // namespace

void run(const Conv& k) {
  const Window w = window_of(k.window);
  const int64_t rows = k.y.shape.span(0, 4), o = k.y.dim(4), width = k.width();
  if (rows == 0 || o == 0) return;
  float* const workspace = static_cast<float*>(k.workspace);
  const float* const bias = k.bias.present() ? k.bias.f32() : nullptr;
  const auto activate = [&](float* y, int64_t n) {
    if (k.activation != kNoActivation) run(activation_of(y, n * o, k.activation, k.alpha));
  };
  const bool pointwise = is_pointwise(k.x, k.y, w);
  if (k.direct()) {
    pack_filter(k.filter.f32(), width, o, bias, workspace);
    return WindowProduct(k.x, w, k.y.shape.dims + 1, workspace, k.y).run(activate);
  }
  const PatchProduct p{k.x, w, k.y.shape.dims + 1, pointwise, width, o, k.filter.f32(), bias};
  const int64_t most = pointwise ? rows : k.rows();
  for (int64_t begin = 0; begin < rows; begin += most) {
    const int64_t n = rows - begin < most ? rows - begin : most;
    float* y = k.y.f32() + begin * o;
    p.run(begin, begin + n, workspace, y);
    activate(y, n);
  }
}

void run(const ConvInputGrad& k) {
  const Window w = window_of(k.window);
  GradientClass axes[3];
  const auto classes = [&](int axis) { return gradient_classes(w, axis, k.dx.dim(1 + axis)); };
  for (int64_t d = 0; d < classes(0); d++) {
    axes[0] = gradient_class(w, 0, d, k.dx.dim(1));
    for (int64_t h = 0; h < classes(1); h++) {
      axes[1] = gradient_class(w, 1, h, k.dx.dim(2));
      for (int64_t l = 0; l < classes(2); l++) {
        axes[2] = gradient_class(w, 2, l, k.dx.dim(3));
        input_grad_class(k, axes);
      }
    }
  }
}

void run(const ConvFilterGrad& k) {
  const Window w = window_of(k.window);
  const int64_t rows = k.dy.shape.span(0, 4), width = k.width();
  if (rows == 0 || k.dy.dim(4) == 0) return clear_floats(k.dfilter.f32(), k.dfilter.count());
  if (is_pointwise(k.x, k.dy, w)) return add_filter_rows(k, 0, rows, k.x.f32(), false, k.dfilter.f32());
  if (k.slices() > 1) return sum_slices(k, w);
  const int64_t most = patch_rows(rows, width);
  float* patches = static_cast<float*>(k.workspace);
  for (int64_t begin = 0; begin < rows; begin += most) {
    const int64_t n = rows - begin < most ? rows - begin : most;
    lay_out(k.x, w, k.dy.shape.dims + 1, begin, n, patches);
    add_filter_rows(k, begin, begin + n, patches, begin > 0, k.dfilter.f32());
  }
}

}  // namespace simmim::SIMMIM_ISA
