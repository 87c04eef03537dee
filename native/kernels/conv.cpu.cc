#include "conv.h"

#include "../cpu/gemm.h"
#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

namespace {

void copy_floats(float* to, const float* from, int64_t n) { __builtin_memcpy(to, from, static_cast<size_t>(n) * 4); }
void clear_floats(float* to, int64_t n) { __builtin_memset(to, 0, static_cast<size_t>(n) * 4); }

/// Rows [begin, begin + rows) of the patch matrix [B P Q, KH KW C].
void lay_out(const Tensor& x, int64_t kh, int64_t kw, int64_t p, int64_t q, const ConvWindow& w, int64_t begin, int64_t rows, float* to) {
  const int64_t h = x.dim(1), width = x.dim(2), c = x.dim(3), row_size = kh * kw * c;
  parallel_ranges(rows, 8192 / row_size + 1, [&](int64_t from, int64_t end) {
    for (int64_t r = from; r < end; r++) {
      const int64_t at = begin + r, b = at / (p * q), y0 = at / q % p * w.stride_h - w.top, x0 = at % q * w.stride_w - w.left;
      float* out = to + r * row_size;
      for (int64_t i = 0; i < kh; i++, out += kw * c) {
        const int64_t yy = y0 + i * w.dilation_h;
        if (yy < 0 || yy >= h) {
          clear_floats(out, kw * c);
          continue;
        }
        const float* line = x.f32() + (b * h + yy) * width * c;
        if (w.dilation_w == 1 && x0 >= 0 && x0 + kw <= width) {
          copy_floats(out, line + x0 * c, kw * c);
          continue;
        }
        for (int64_t j = 0; j < kw; j++) {
          const int64_t xx = x0 + j * w.dilation_w;
          if (xx >= 0 && xx < width) copy_floats(out + j * c, line + xx * c, c);
          else clear_floats(out + j * c, c);
        }
      }
    }
  });
}

/// A 1 x 1 filter without stride and padding reads x as it is.
bool is_pointwise(const Tensor& x, const Tensor& filter, const Tensor& y, const ConvWindow& w) {
  return x.dim(1) == y.dim(1) && x.dim(2) == y.dim(2) && filter.dim(0) == 1 && filter.dim(1) == 1 && w.stride_h == 1 && w.stride_w == 1 && w.top == 0 && w.left == 0;
}

Gemm product(int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c) {
  Gemm g;
  g.m = m, g.n = n, g.k = k;
  g.a = a, g.lda = k;
  g.b = b, g.ldb = n;
  g.c = c, g.ldc = n;
  return g;
}

/// One axis of the gradient of x: the positions of one class (mod stride) and the filter taps that reach them.
struct Class {
  int64_t first, step, count;             // positions first, first + step, ...
  int64_t taps = 0, tap[Conv2DInputGrad::kMaxTaps], source[Conv2DInputGrad::kMaxTaps];  // tap number; dy index that tap reads at the first position
};

Class make_class(int64_t residue, int64_t stride, int64_t size, int64_t kernel, int64_t dilation, int64_t pad) {
  Class out;
  out.first = residue;
  out.step = stride;
  out.count = residue < size ? (size - residue + stride - 1) / stride : 0;
  for (int64_t k = 0; k < kernel; k++) {
    const int64_t reach = residue + pad - k * dilation;
    if (reach % stride != 0) continue;
    out.tap[out.taps] = k;
    out.source[out.taps++] = reach / stride;
  }
  return out;
}

/// Gradient rows of all positions of one class pair.
void input_grad_class(const Conv2DInputGrad& k, const Class& v, const Class& u) {
  const int64_t o = k.dy.dim(3), c = k.dx.dim(3), p = k.dy.dim(1), q = k.dy.dim(2), h = k.dx.dim(1), width = k.dx.dim(2);
  const int64_t depth = v.taps * u.taps * o, total = k.dx.dim(0) * v.count * u.count;
  if (total == 0) return;
  const int64_t most = k.rows();
  float* patches = static_cast<float*>(k.workspace);
  float* filter = patches + most * k.width();
  float* block = filter + k.filter.count();
  const bool dense = v.step == 1 && u.step == 1;
  parallel_for(v.taps * u.taps, [&](int64_t t) {  // [taps, O, C] from [KH, KW, C, O]
    const float* from = k.filter.f32() + (v.tap[t / u.taps] * k.filter.dim(1) + u.tap[t % u.taps]) * c * o;
    for (int64_t j = 0; j < o; j++)
      for (int64_t i = 0; i < c; i++) filter[(t * o + j) * c + i] = from[i * o + j];
  });
  for (int64_t begin = 0; begin < total; begin += most) {
    const int64_t rows = total - begin < most ? total - begin : most;
    const auto position = [&](int64_t r, int64_t& b, int64_t& m, int64_t& n) {
      b = r / (v.count * u.count);
      m = r / u.count % v.count;
      n = r % u.count;
    };
    parallel_ranges(rows, 8192 / (depth + 1) + 1, [&](int64_t from, int64_t end) {
      for (int64_t r = from; r < end; r++) {
        int64_t b, m, n;
        position(begin + r, b, m, n);
        float* out = patches + r * depth;
        for (int64_t i = 0; i < v.taps; i++)
          for (int64_t j = 0; j < u.taps; j++, out += o) {
            const int64_t y = v.source[i] + m, x = u.source[j] + n;
            if (y >= 0 && y < p && x >= 0 && x < q) copy_floats(out, k.dy.f32() + ((b * p + y) * q + x) * o, o);
            else clear_floats(out, o);
          }
      }
    });
    float* result = dense ? k.dx.f32() + begin * c : block;
    if (depth > 0) gemm(product(rows, c, depth, patches, filter, result));
    else clear_floats(result, rows * c);
    if (dense) continue;
    parallel_ranges(rows, 8192 / c + 1, [&](int64_t from, int64_t end) {
      for (int64_t r = from; r < end; r++) {
        int64_t b, m, n;
        position(begin + r, b, m, n);
        copy_floats(k.dx.f32() + ((b * h + v.first + m * v.step) * width + u.first + n * u.step) * c, block + r * c, c);
      }
    });
  }
}

}  // namespace

void run(const Conv2D& k) {
  const ConvWindow w = conv_window(k.window);
  const int64_t rows = k.y.shape.span(0, 3), o = k.y.dim(3), width = k.width();
  if (rows == 0 || o == 0) return;
  const bool direct = is_pointwise(k.x, k.filter, k.y, w);
  const int64_t most = direct ? rows : patch_rows(rows, width);
  for (int64_t begin = 0; begin < rows; begin += most) {
    const int64_t n = rows - begin < most ? rows - begin : most;
    float* patches = static_cast<float*>(k.workspace);
    if (!direct) lay_out(k.x, k.filter.dim(0), k.filter.dim(1), k.y.dim(1), k.y.dim(2), w, begin, n, patches);
    Gemm g = product(n, o, width, direct ? k.x.f32() : patches, k.filter.f32(), k.y.f32() + begin * o);
    g.bias = k.bias.present() ? k.bias.f32() : nullptr;
    gemm(g);
  }
}

void run(const Conv2DInputGrad& k) {
  const ConvWindow w = conv_window(k.window);
  for (int64_t i = 0; i < w.stride_h; i++) {
    const Class v = make_class(i, w.stride_h, k.dx.dim(1), k.filter.dim(0), w.dilation_h, w.top);
    for (int64_t j = 0; j < w.stride_w; j++) input_grad_class(k, v, make_class(j, w.stride_w, k.dx.dim(2), k.filter.dim(1), w.dilation_w, w.left));
  }
}

void run(const Conv2DFilterGrad& k) {
  const ConvWindow w = conv_window(k.window);
  const int64_t rows = k.dy.shape.span(0, 3), o = k.dy.dim(3), width = k.width();
  if (rows == 0 || o == 0) return clear_floats(k.dfilter.f32(), k.dfilter.count());
  const bool direct = is_pointwise(k.x, k.dfilter, k.dy, w);
  const int64_t most = direct ? rows : patch_rows(rows, width);
  for (int64_t begin = 0; begin < rows; begin += most) {
    const int64_t n = rows - begin < most ? rows - begin : most;
    float* patches = static_cast<float*>(k.workspace);
    if (!direct) lay_out(k.x, k.dfilter.dim(0), k.dfilter.dim(1), k.dy.dim(1), k.dy.dim(2), w, begin, n, patches);
    Gemm g = product(width, o, n, direct ? k.x.f32() : patches, k.dy.f32() + begin * o, k.dfilter.f32());
    g.lda = width;
    g.transpose_a = true;
    g.accumulate = begin > 0;
    gemm(g);
  }
}

}  // namespace simmim::SIMMIM_ISA
