#include "fft.h"

#include <initializer_list>

#include "../cuda/divide.cuh"
#include "../cuda/launch.cuh"

namespace simmim::cuda {

namespace {

constexpr double kTurn = 6.283185307179586476925;

struct Complex {
  float r, i;
};
SIMMIM_DEVICE Complex operator*(Complex a, Complex b) { return {a.r * b.r - a.i * b.i, a.r * b.i + a.i * b.r}; }

/// Real and imaginary parts of rows.
struct Parts {
  float *real, *imag;
  SIMMIM_DEVICE Complex operator[](int64_t at) const { return {real[at], imag[at]}; }
  SIMMIM_DEVICE void put(int64_t at, Complex v) const { real[at] = v.r, imag[at] = v.i; }
  SIMMIM_INLINE Parts from(int64_t at) const { return {real + at, imag + at}; }
};
Parts exchanged(const Parts& x) { return {x.imag, x.real}; }
Parts parts_of(const Tensor& real, const Tensor& imag) { return {real.f32(), imag.f32()}; }

/// exp(-2 pi i k / n) of k in [0, n).
struct MakeRoots {
  Parts roots;
  double n;
  __device__ void operator()(int64_t k) const {
    const double angle = kTurn * (static_cast<double>(k) / n);
    roots.put(k, {static_cast<float>(::cos(angle)), static_cast<float>(-::sin(angle))});
  }
};

/// The transform of R values in registers; the roots are those of a multiple n of R.
template <int R>
SIMMIM_DEVICE void transform(Complex (&v)[R], const Parts& roots, int64_t n) {
  constexpr int kHalf = R / 2;
  Complex sums[kHalf], differences[kHalf];
  Complex all = v[0];
  SIMMIM_UNROLL
  for (int j = 0; j < kHalf; j++) {
    const Complex a = v[j + 1], b = v[R - 1 - j];
    sums[j] = {a.r + b.r, a.i + b.i};
    differences[j] = {a.r - b.r, a.i - b.i};
    all = {all.r + sums[j].r, all.i + sums[j].i};
  }
  const Complex first = v[0];
  v[0] = all;
  SIMMIM_UNROLL
  for (int k = 1; k <= kHalf; k++) {
    Complex even = first, odd{0, 0};
    SIMMIM_UNROLL
    for (int j = 0; j < kHalf; j++) {
      const Complex root = roots[(j + 1) * k % R * (n / R)];
      even.r += sums[j].r * root.r, even.i += sums[j].i * root.r;
      odd.r -= differences[j].i * root.i, odd.i += differences[j].r * root.i;
    }
    v[k] = {even.r + odd.r, even.i + odd.i};
    v[R - k] = {even.r - odd.r, even.i - odd.i};
  }
}
SIMMIM_DEVICE void transform(Complex (&v)[2], const Parts&, int64_t) {
  const Complex a = v[0], b = v[1];
  v[0] = {a.r + b.r, a.i + b.i};
  v[1] = {a.r - b.r, a.i - b.i};
}
SIMMIM_DEVICE void transform(Complex (&v)[4], const Parts&, int64_t) {
  const Complex a{v[0].r + v[2].r, v[0].i + v[2].i}, b{v[0].r - v[2].r, v[0].i - v[2].i};
  const Complex c{v[1].r + v[3].r, v[1].i + v[3].i}, d{v[1].i - v[3].i, v[3].r - v[1].r};  // d times -i
  v[0] = {a.r + c.r, a.i + c.i};
  v[1] = {b.r + d.r, b.i + d.i};
  v[2] = {a.r - c.r, a.i - c.i};
  v[3] = {b.r - d.r, b.i - d.i};
}

/// Butterfly t of one row of n in a stage of radix R in which `s` values beside each other are treated alike (Stockham's
/// autosort).
template <int R>
SIMMIM_DEVICE void butterfly(const Parts& x, const Parts& y, int t, int n, int s, const Parts& roots, float scale) {
  const int p = t / s, q = t % s, m = n / R;
  Complex v[R];
  SIMMIM_UNROLL
  for (int j = 0; j < R; j++) v[j] = x[t + j * m];
  transform(v, roots, n);
  const int to = q + s * R * p;
  y.put(to, {v[0].r * scale, v[0].i * scale});
  SIMMIM_UNROLL
  for (int k = 1; k < R; k++) {
    const Complex w = v[k] * roots[p * k * s];
    y.put(to + k * s, {w.r * scale, w.i * scale});
  }
}
SIMMIM_DEVICE void butterfly_of(int radix, const Parts& x, const Parts& y, int t, int n, int s, const Parts& roots, float scale) {
  switch (radix) {
    case 2: return butterfly<2>(x, y, t, n, s, roots, scale);
    case 3: return butterfly<3>(x, y, t, n, s, roots, scale);
    case 4: return butterfly<4>(x, y, t, n, s, roots, scale);
    case 5: return butterfly<5>(x, y, t, n, s, roots, scale);
    case 7: return butterfly<7>(x, y, t, n, s, roots, scale);
    case 11: return butterfly<11>(x, y, t, n, s, roots, scale);
    default: return butterfly<13>(x, y, t, n, s, roots, scale);
  }
}

/// The radices of the stages of a length.
struct Stages {
  int count = 0;
  int radix[26] = {};
  explicit Stages(int64_t n) {
    for (const int r : {4, 2, 3, 5, 7, 11, 13})
      for (; n % r == 0; n /= r) radix[count++] = r;
  }
};

/// Whole rows, `together` of them in a block's shared memory.
__global__ void transform_in_blocks(Parts x, Parts y, int64_t rows, int n, int together, Stages stages, Parts roots, float scale) {
  float* memory = shared_memory<float>();
  const int size = together * n;
  Parts here{memory, memory + size}, there{memory + 2 * size, memory + 3 * size};
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * together; first < rows; first += static_cast<int64_t>(gridDim.x) * together) {
    const int count = static_cast<int>(rows - first < together ? rows - first : together);
    for (int i = threadIdx.x; i < count * n; i += blockDim.x) here.put(i, x[first * n + i]);
    for (int stage = 0, s = 1; stage < stages.count; stage++) {
      __syncthreads();
      const int radix = stages.radix[stage], butterflies = n / radix;
      for (int i = threadIdx.x; i < count * butterflies; i += blockDim.x) {
        const int row = i / butterflies * n;
        butterfly_of(radix, here.from(row), there.from(row), i % butterflies, n, s, roots, 1);
      }
      s *= radix;
      const Parts done = there;
      there = here;
      here = done;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < count * n; i += blockDim.x) y.put(first * n + i, {here.real[i] * scale, here.imag[i] * scale});
    __syncthreads();
  }
}

/// One stage of long rows.
template <int R>
struct LongStage {
  Parts x, y, roots;
  int n, s;
  float scale;
  Coordinates<2> items;  // row, butterfly
  __device__ void operator()(int64_t i) const {
    int64_t at[2];
    items.find(i, at);
    butterfly<R>(x.from(at[0] * n), y.from(at[0] * n), static_cast<int>(at[1]), n, s, roots, scale);
  }
};
template <int R>
void run_stage(const Parts& x, const Parts& y, int64_t rows, int n, int s, const Parts& roots, float scale, Stream& stream) {
  for_each(stream, rows * (n / R), LongStage<R>{x, y, roots, n, s, scale, Coordinates<2>({rows, n / R})});
}

void transform_long_rows(const Parts& x, const Parts& y, int64_t rows, int n, const Parts& roots, float scale, float* between, Stream& stream) {
  const Stages stages(n);
  const Parts other{between, between + rows * n};
  Parts from = x;
  for (int stage = 0, s = 1; stage < stages.count; stage++) {
    const int left = stages.count - 1 - stage;
    const Parts& to = left % 2 == 0 ? y : other;
    const auto run = [&](auto stage_of) { stage_of(from, to, rows, n, s, roots, left == 0 ? scale : 1, stream); };
    switch (stages.radix[stage]) {
      case 2: run(run_stage<2>); break;
      case 3: run(run_stage<3>); break;
      case 4: run(run_stage<4>); break;
      case 5: run(run_stage<5>); break;
      case 7: run(run_stage<7>); break;
      case 11: run(run_stage<11>); break;
      default: run(run_stage<13>); break;
    }
    from = to;
    s *= stages.radix[stage];
  }
}

/// Rows of smooth length n from x to y, times `scale`; the roots are of order n.
void transform_rows(const Parts& x, const Parts& y, int64_t rows, int64_t n, const Parts& roots, float scale, float* between, Stream& stream) {
  if (n > CudaFftPlan::kBlockRow) return transform_long_rows(x, y, rows, static_cast<int>(n), roots, scale, between, stream);
  const int64_t fitting = CudaFftPlan::kBlockRow / n, together = fitting < 8 ? fitting : 8, blocks = (rows + together - 1) / together, most = static_cast<int64_t>(stream.multiprocessors) * 8;
  const int64_t wanted = (together * n / 2 + kWarpSize - 1) / kWarpSize * kWarpSize;
  const Grid grid{dim3(static_cast<unsigned>(blocks < most ? blocks : most)), dim3(static_cast<unsigned>(wanted < 256 ? wanted : 256)), static_cast<size_t>(together * n) * 16};
  launch(stream, &transform_in_blocks, grid, x, y, rows, static_cast<int>(n), static_cast<int>(together), Stages(n), roots, scale);
}

Parts take(float** memory, int64_t count) {
  const Parts parts{*memory, *memory + count};
  *memory += 2 * count;
  return parts;
}

// Bluestein's convolution: the chirp c[k] = exp(-pi i k^2 / n), and a ring of m of its conjugates, continued to negative k.
struct MakeChirp {
  Parts chirp, ring;
  int64_t n, m;
  __device__ void operator()(int64_t at) const {
    const int64_t k = at < n ? at : m - at < n ? m - at : -1;  // -1: between them
    if (k < 0) return ring.put(at, {0, 0});
    const double angle = kTurn / 2 * (static_cast<double>(k * k % (2 * n)) / static_cast<double>(n));
    const Complex c{static_cast<float>(::cos(angle)), static_cast<float>(-::sin(angle))};
    ring.put(at, {c.r, -c.i});
    if (at < n) chirp.put(at, c);
  }
};
/// Padded rows of m: x times the chirp.
struct Enter {
  Parts x, chirp, padded;
  int64_t n, m;
  __device__ void operator()(int64_t i) const {
    const int64_t k = i % m;
    padded.put(i, k < n ? x[i / m * n + k] * chirp[k] : Complex{0, 0});
  }
};
struct Convolve {
  Parts x, spectrum;
  int64_t m;
  __device__ void operator()(int64_t i) const { x.put(i, x[i] * spectrum[i % m]); }
};
struct Leave {
  Parts padded, chirp, y;
  int64_t n, m;
  float scale;
  __device__ void operator()(int64_t i) const {
    const int64_t k = i % n;
    const Complex v = padded[i / n * m + k];
    y.put(i, Complex{v.r * scale, v.i * scale} * chirp[k]);
  }
};

void transform_chirped(const CudaFftPlan& plan, const Parts& x, const Parts& y, float scale, float* memory, Stream& stream) {
  const int64_t n = plan.n, m = plan.m;
  const Parts chirp = take(&memory, n), roots = take(&memory, m), spectrum = take(&memory, m), before = take(&memory, plan.block * m), after = take(&memory, plan.block * m);
  for_each(stream, m, MakeRoots{roots, static_cast<double>(m)});
  for_each(stream, m, MakeChirp{chirp, before, n, m});
  transform_rows(before, spectrum, 1, m, roots, 1, memory, stream);
  for (int64_t first = 0; first < plan.rows; first += plan.block) {
    const int64_t rows = plan.rows - first < plan.block ? plan.rows - first : plan.block;
    for_each(stream, rows * m, Enter{x.from(first * n), chirp, before, n, m});
    transform_rows(before, after, rows, m, roots, 1, memory, stream);
    for_each(stream, rows * m, Convolve{after, spectrum, m});
    transform_rows(exchanged(after), exchanged(before), rows, m, roots, 1.0f / static_cast<float>(m), memory, stream);  // backwards
    for_each(stream, rows * n, Leave{before, chirp, y.from(first * n), n, m, scale});
  }
}

}  // namespace

void run(const Fft& k, Stream& stream) {
  if (k.real.count() == 0) return;
  const CudaFftPlan plan(k.real.dim(0), k.real.dim(1));
  // Parts exchanged on the way in and out make the exponent positive.
  const Parts x = k.inverse ? parts_of(k.imag, k.real) : parts_of(k.real, k.imag), y = k.inverse ? parts_of(k.y_imag, k.y_real) : parts_of(k.y_real, k.y_imag);
  const float scale = k.inverse ? 1.0f / static_cast<float>(plan.n) : 1;
  float* memory = static_cast<float*>(k.workspace);
  if (plan.m > 0) return transform_chirped(plan, x, y, scale, memory, stream);
  const Parts roots = take(&memory, plan.n);
  for_each(stream, plan.n, MakeRoots{roots, static_cast<double>(plan.n)});
  transform_rows(x, y, plan.rows, plan.n, roots, scale, memory, stream);
}

}  // namespace simmim::cuda
