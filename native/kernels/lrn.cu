#include "lrn.h"

#include "../cuda/divide.cuh"
#include "../cuda/launch.cuh"

namespace simmim::cuda {

namespace {

/// Rows of channels, and the neighbours of a channel within the radius.
struct Neighbours {
  Coordinates<2> places;
  int64_t channels, radius;
  Neighbours(const Tensor& x, int64_t r) : places({x.dim(0), x.dim(1)}), channels(x.dim(1)), radius(r < x.dim(1) ? r : x.dim(1)) {}
  /// Sum of term(j) over the values j around value i in its row.
  template <class F>
  SIMMIM_DEVICE float sum(int64_t i, const F& term) const {
    int64_t at[2];
    places.find(i, at);
    const int64_t low = at[1] > radius ? at[1] - radius : 0, high = at[1] + radius < channels ? at[1] + radius : channels - 1;
    float total = 0;
    for (int64_t c = low; c <= high; c++) total += term(i - at[1] + c);
    return total;
  }
};

struct Norm {
  const float* x;
  Neighbours around;
  float bias, alpha, beta;
  SIMMIM_DEVICE float operator()(int64_t i) const {
    return alpha * around.sum(i, [this](int64_t j) { return x[j] * x[j]; }) + bias;
  }
  /// n^-beta; the exponents in use have square roots.
  SIMMIM_DEVICE float inverse_power(float n) const {
    if (beta == 0.75f) {
      const float root = sqrtf(n);
      return 1.0f / (root * sqrtf(root));
    }
    if (beta == 0.5f) return 1.0f / sqrtf(n);
    return beta == 1.0f ? 1.0f / n : powf(n, -beta);
  }
};

struct Normalise {
  Norm norm;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = norm.x[i] * norm.inverse_power(norm(i)); }
};

/// The first term of the gradient, and what neighbours add up for the second.
struct OwnGradient {
  Norm norm;
  const float *y, *dy;
  float *dx, *term;
  __device__ void operator()(int64_t i) const {
    const float n = norm(i);
    dx[i] = dy[i] * norm.inverse_power(n);
    term[i] = dy[i] * y[i] / n;
  }
};
struct NeighboursGradient {
  Neighbours around;
  const float *x, *term;
  float factor;
  float* dx;
  __device__ void operator()(int64_t i) const {
    dx[i] += factor * x[i] * around.sum(i, [this](int64_t j) { return term[j]; });
  }
};

}  // namespace

void run(const Lrn& k, Stream& stream) {
  for_each(stream, k.x.count(), Normalise{{k.x.f32(), Neighbours(k.x, k.radius), k.bias, k.alpha, k.beta}, k.y.f32()});
}

void run(const LrnGrad& k, Stream& stream) {
  const Neighbours around(k.x, k.radius);
  auto* term = static_cast<float*>(k.workspace);
  for_each(stream, k.x.count(), OwnGradient{{k.x.f32(), around, k.bias, k.alpha, k.beta}, k.y.f32(), k.dy.f32(), k.dx.f32(), term});
  for_each(stream, k.x.count(), NeighboursGradient{around, k.x.f32(), term, -2 * k.alpha * k.beta, k.dx.f32()});
}

}  // namespace simmim::cuda
