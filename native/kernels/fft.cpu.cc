#include "fft.h"

#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

namespace {

constexpr double kTurn = 6.283185307179586476925;

/// exp(-2 pi i k / n) for k in [0, n): real parts, then imaginary parts.
struct Roots {
  const float *real, *imag;
  int64_t step = 1;  // between roots of the order in use
  SIMMIM_INLINE Roots every(int64_t factor) const { return {real, imag, step * factor}; }
};

Roots make_roots(int64_t n, float* memory) {
  float *real = memory, *imag = memory + n;
  const double dr = __builtin_cos(kTurn / static_cast<double>(n)), di = -__builtin_sin(kTurn / static_cast<double>(n));
  parallel_ranges(n, 64, [&](int64_t begin, int64_t end) {  // from an exact root on by products, in doubles
    const double angle = kTurn * (static_cast<double>(begin) / static_cast<double>(n));
    double r = __builtin_cos(angle), i = -__builtin_sin(angle);
    for (int64_t k = begin; k < end; k++) {
      real[k] = static_cast<float>(r), imag[k] = static_cast<float>(i);
      const double next = r * dr - i * di;
      i = r * di + i * dr;
      r = next;
    }
  });
  return {real, imag};
}

/// kLanes transforms side by side: element k of all of them in one register.
struct Lines {
  Vec *real, *imag;
};

SIMMIM_INLINE void put(const Lines& y, int64_t at, Vec r, Vec i, float wr, float wi) {
  y.real[at] = r * wr - i * wi;
  y.imag[at] = r * wi + i * wr;
}

/// One stage: n elements in all, `s` of them beside each other that are treated alike (Stockham's autosort).
void stage_2(int64_t n, int64_t s, const Lines& x, const Lines& y, const Roots& roots) {
  const int64_t m = n / 2;
  for (int64_t p = 0; p < m; p++) {
    const float wr = roots.real[p * roots.step], wi = roots.imag[p * roots.step];
    for (int64_t q = 0; q < s; q++) {
      const int64_t a = q + s * p, b = a + s * m, to = q + s * 2 * p;
      y.real[to] = x.real[a] + x.real[b];
      y.imag[to] = x.imag[a] + x.imag[b];
      put(y, to + s, x.real[a] - x.real[b], x.imag[a] - x.imag[b], wr, wi);
    }
  }
}

void stage_4(int64_t n, int64_t s, const Lines& x, const Lines& y, const Roots& roots) {
  const int64_t m = n / 4;
  for (int64_t p = 0; p < m; p++) {
    float wr[4], wi[4];
    for (int64_t k = 1; k < 4; k++) wr[k] = roots.real[p * k * roots.step], wi[k] = roots.imag[p * k * roots.step];
    for (int64_t q = 0; q < s; q++) {
      const int64_t a = q + s * p, step = s * m, to = q + s * 4 * p;
      const Vec r0 = x.real[a] + x.real[a + 2 * step], i0 = x.imag[a] + x.imag[a + 2 * step], r1 = x.real[a] - x.real[a + 2 * step], i1 = x.imag[a] - x.imag[a + 2 * step];
      const Vec r2 = x.real[a + step] + x.real[a + 3 * step], i2 = x.imag[a + step] + x.imag[a + 3 * step];
      const Vec r3 = x.imag[a + step] - x.imag[a + 3 * step], i3 = x.real[a + 3 * step] - x.real[a + step];  // times -i
      y.real[to] = r0 + r2;
      y.imag[to] = i0 + i2;
      put(y, to + s, r1 + r3, i1 + i3, wr[1], wi[1]);
      put(y, to + 2 * s, r0 - r2, i0 - i2, wr[2], wi[2]);
      put(y, to + 3 * s, r1 - r3, i1 - i3, wr[3], wi[3]);
    }
  }
}

template <int R>
void stage_odd(int64_t n, int64_t s, const Lines& x, const Lines& y, const Roots& roots) {
  constexpr int kHalf = R / 2;
  const int64_t m = n / R;
  float cosine[R], sine[R];
  for (int k = 0; k < R; k++) cosine[k] = roots.real[k * m * roots.step], sine[k] = roots.imag[k * m * roots.step];
  for (int64_t p = 0; p < m; p++) {
    float wr[R], wi[R];
    for (int64_t k = 0; k < R; k++) wr[k] = roots.real[p * k * roots.step], wi[k] = roots.imag[p * k * roots.step];
    for (int64_t q = 0; q < s; q++) {
      const int64_t a = q + s * p, step = s * m, to = q + s * R * p;
      const Vec r0 = x.real[a], i0 = x.imag[a];
      Vec sum_r[kHalf], sum_i[kHalf], dif_r[kHalf], dif_i[kHalf], all_r = r0, all_i = i0;
      for (int j = 0; j < kHalf; j++) {
        const int64_t b = a + (j + 1) * step, c = a + (R - 1 - j) * step;
        sum_r[j] = x.real[b] + x.real[c], sum_i[j] = x.imag[b] + x.imag[c];
        dif_r[j] = x.real[b] - x.real[c], dif_i[j] = x.imag[b] - x.imag[c];
        all_r += sum_r[j], all_i += sum_i[j];
      }
      y.real[to] = all_r;
      y.imag[to] = all_i;
      for (int k = 1; k <= kHalf; k++) {
        Vec er = r0, ei = i0, odd_r{}, odd_i{};
        for (int j = 0; j < kHalf; j++) {
          const int at = (j + 1) * k % R;
          er += sum_r[j] * cosine[at], ei += sum_i[j] * cosine[at];
          odd_r -= dif_i[j] * sine[at], odd_i += dif_r[j] * sine[at];
        }
        put(y, to + k * s, er + odd_r, ei + odd_i, wr[k], wi[k]);
        put(y, to + (R - k) * s, er - odd_r, ei - odd_i, wr[R - k], wi[R - k]);
      }
    }
  }
}

/// Transforms of length n in x, with y as scratch; the result is in the one that is returned.
Lines transform_lines(int64_t n, Lines x, Lines y, Roots roots) {
  int64_t s = 1;
  const auto step = [&](int64_t radix, void (*stage)(int64_t, int64_t, const Lines&, const Lines&, const Roots&)) {
    while (n % radix == 0 && n > 1) {
      stage(n, s, x, y, roots);
      const Lines other = x;
      x = y, y = other;
      n /= radix, s *= radix;
      roots = roots.every(radix);
    }
  };
  step(4, stage_4);
  step(2, stage_2);
  step(3, stage_odd<3>);
  step(5, stage_odd<5>);
  step(7, stage_odd<7>);
  step(11, stage_odd<11>);
  step(13, stage_odd<13>);
  return x;
}

/// Real and imaginary parts of many transforms: element k of transform t is at t * apart + k * step.
struct Source {
  const float *real, *imag;
  int64_t apart, step;
};
struct Target {
  float *real, *imag;
  int64_t apart, step;
};

/// Up to kLanes transforms, from number `first` on, into registers.
void load_lines(const Source& x, int64_t first, int lanes, int64_t n, const Lines& to) {
  IVec index;
  for (int l = 0; l < kLanes; l++) index[l] = static_cast<int32_t>((l < lanes ? l : 0) * x.apart);
  const float *real = x.real + first * x.apart, *imag = x.imag + first * x.apart;
  const bool beside = x.apart == 1 && lanes == kLanes;
  for (int64_t k = 0; k < n; k++) {
    to.real[k] = beside ? load(real + k * x.step) : gather(real + k * x.step, index);
    to.imag[k] = beside ? load(imag + k * x.step) : gather(imag + k * x.step, index);
  }
}

/// The same way back, times `scale`.
void store_lines(const Lines& from, const Target& y, int64_t first, int lanes, int64_t n, float scale) {
  float *real = y.real + first * y.apart, *imag = y.imag + first * y.apart;
  const bool beside = y.apart == 1 && lanes == kLanes;
  for (int64_t k = 0; k < n; k++) {
    const Vec r = from.real[k] * scale, i = from.imag[k] * scale;
    if (beside) {
      store(real + k * y.step, r);
      store(imag + k * y.step, i);
      continue;
    }
    for (int l = 0; l < lanes; l++) real[l * y.apart + k * y.step] = r[l], imag[l * y.apart + k * y.step] = i[l];
  }
}

/// Multiplies element k of transform t by the root number t k.
void twist(const Lines& x, int64_t first, int64_t n, const Roots& roots) {
  IVec at{}, apart;
  for (int l = 0; l < kLanes; l++) apart[l] = static_cast<int32_t>(first + l);
  for (int64_t k = 1; k < n; k++) {
    at += apart;
    const Vec wr = gather(roots.real, at), wi = gather(roots.imag, at), r = x.real[k], i = x.imag[k];
    x.real[k] = r * wr - i * wi;
    x.imag[k] = r * wi + i * wr;
  }
}

/// `count` transforms of length n from x to y; `twiddles` of order count * n come between where there are any.
void transform_many(const Source& x, const Target& y, int64_t count, int64_t n, const Roots& roots, const Roots* twiddles, float scale, float* scratch) {
  const int64_t blocks = (count + kLanes - 1) / kLanes, groups = FftPlan::groups(count) < blocks ? FftPlan::groups(count) : blocks;
  parallel_for(groups, [&](int64_t group) {
    Vec* memory = reinterpret_cast<Vec*>(scratch + group * 4 * n * kLanes);
    const Lines a{memory, memory + n}, b{memory + 2 * n, memory + 3 * n};
    for (int64_t block = group * blocks / groups; block < (group + 1) * blocks / groups; block++) {
      const int64_t first = block * kLanes;
      const int lanes = static_cast<int>(count - first < kLanes ? count - first : kLanes);
      load_lines(x, first, lanes, n, a);
      const Lines done = transform_lines(n, a, b, roots);
      if (twiddles && lanes == kLanes) twist(done, first, n, *twiddles);
      if (twiddles && lanes < kLanes) {  // lanes behind the last transform have no roots
        for (int64_t k = 0; k < n; k++)
          for (int l = 0; l < lanes; l++) {
            const int64_t at = (first + l) * k;
            const float wr = twiddles->real[at], wi = twiddles->imag[at], r = done.real[k][l], i = done.imag[k][l];
            done.real[k][l] = r * wr - i * wi;
            done.imag[k][l] = r * wi + i * wr;
          }
      }
      store_lines(done, y, first, lanes, n, scale);
    }
  });
}

/// Rows of smooth length. The roots are made by the caller.
void transform_rows(const FftPlan& plan, const float* real, const float* imag, float* y_real, float* y_imag, float scale, const Roots& roots, float* scratch) {
  const int64_t n = plan.n, n1 = plan.n1, n2 = plan.n2;
  if (n1 == 1) return transform_many({real, imag, n, 1}, {y_real, y_imag, n, 1}, plan.rows, n, roots, nullptr, scale, scratch);
  float *between = scratch, *lanes = scratch + plan.cut;
  for (int64_t r = 0; r < plan.rows; r++) {
    transform_many({real + r * n, imag + r * n, 1, n2}, {between, between + n, 1, n2}, n2, n1, roots.every(n2), &roots, 1, lanes);
    transform_many({between, between + n, n2, 1}, {y_real + r * n, y_imag + r * n, 1, n1}, n1, n2, roots.every(n1), nullptr, scale, lanes);
  }
}

/// The chirp exp(-pi i k^2 / n) and the transform of its conjugate, continued to negative k, in a ring of m.
struct Chirp {
  const float *real, *imag, *spectrum_real, *spectrum_imag;
};

Chirp make_chirp(const ChirpPlan& plan, float* memory, float* ring, const Roots& roots, float* scratch) {
  const int64_t n = plan.n, m = plan.m;
  const Roots fine = make_roots(2 * n, memory);
  float *real = memory + 4 * n, *imag = real + n, *spectrum = imag + n;
  __builtin_memset(ring, 0, static_cast<size_t>(2 * m) * 4);
  for (int64_t k = 0; k < n; k++) {
    const int64_t at = k * k % (2 * n), back = k == 0 ? 0 : m - k;
    real[k] = fine.real[at], imag[k] = fine.imag[at];
    ring[k] = ring[back] = real[k];
    ring[m + k] = ring[m + back] = -imag[k];
  }
  transform_rows(FftPlan(1, m), ring, ring + m, spectrum, spectrum + m, 1, roots, scratch);
  return {real, imag, spectrum, spectrum + m};
}

void transform_chirped(const ChirpPlan& plan, int64_t rows, const float* real, const float* imag, float* y_real, float* y_imag, float scale, float* workspace) {
  const int64_t n = plan.n, m = plan.m;
  float *roots_memory = workspace + plan.chirp(), *scratch = roots_memory + plan.roots(), *before = scratch + plan.scratch, *after = before + 2 * plan.block * m;
  const Roots roots = make_roots(m, roots_memory);
  const Chirp chirp = make_chirp(plan, workspace, before, roots, scratch);
  for (int64_t first = 0; first < rows; first += plan.block) {
    const int64_t count = rows - first < plan.block ? rows - first : plan.block;
    const FftPlan inner(count, m);
    float *br = before, *bi = before + count * m, *ar = after, *ai = after + count * m;
    parallel_for(count, [&](int64_t r) {
      const float *xr = real + (first + r) * n, *xi = imag + (first + r) * n;
      for (int64_t k = 0; k < n; k++) {
        br[r * m + k] = xr[k] * chirp.real[k] - xi[k] * chirp.imag[k];
        bi[r * m + k] = xr[k] * chirp.imag[k] + xi[k] * chirp.real[k];
      }
      for (int64_t k = n; k < m; k++) br[r * m + k] = bi[r * m + k] = 0;
    });
    transform_rows(inner, br, bi, ar, ai, 1, roots, scratch);
    parallel_for(count, [&](int64_t r) {
      for (int64_t k = 0; k < m; k++) {
        const float xr = ar[r * m + k], xi = ai[r * m + k];
        ar[r * m + k] = xr * chirp.spectrum_real[k] - xi * chirp.spectrum_imag[k];
        ai[r * m + k] = xr * chirp.spectrum_imag[k] + xi * chirp.spectrum_real[k];
      }
    });
    transform_rows(inner, ai, ar, bi, br, 1.0f / static_cast<float>(m), roots, scratch);  // parts exchanged: backwards
    parallel_for(count, [&](int64_t r) {
      for (int64_t k = 0; k < n; k++) {
        const float xr = br[r * m + k] * scale, xi = bi[r * m + k] * scale;
        y_real[(first + r) * n + k] = xr * chirp.real[k] - xi * chirp.imag[k];
        y_imag[(first + r) * n + k] = xr * chirp.imag[k] + xi * chirp.real[k];
      }
    });
  }
}

}  // namespace

void run(const Fft& k) {
  if (k.real.count() == 0) return;
  const int64_t rows = k.real.dim(0), n = k.real.dim(1);
  // Parts exchanged on the way in and out make the exponent positive.
  const float *real = k.inverse ? k.imag.f32() : k.real.f32(), *imag = k.inverse ? k.real.f32() : k.imag.f32();
  float *y_real = k.inverse ? k.y_imag.f32() : k.y_real.f32(), *y_imag = k.inverse ? k.y_real.f32() : k.y_imag.f32();
  const float scale = k.inverse ? 1.0f / static_cast<float>(n) : 1;
  float* workspace = static_cast<float*>(k.workspace);
  if (!FftPlan::is_smooth(n)) return transform_chirped(ChirpPlan(rows, n), rows, real, imag, y_real, y_imag, scale, workspace);
  const FftPlan plan(rows, n);
  transform_rows(plan, real, imag, y_real, y_imag, scale, make_roots(n, workspace), workspace + plan.table);
}

}  // namespace simmim::SIMMIM_ISA
