// Matrix products of the emulation: plain loops in float, summed in the order of K.
#include "../products.h"

#include <bit>
#include <vector>

namespace simmim::cuda {
namespace {

float value_at(const void* data, DType dtype, int64_t at) {
  if (dtype == DType::f32) return static_cast<const float*>(data)[at];
  return std::bit_cast<float>(static_cast<uint32_t>(static_cast<const uint16_t*>(data)[at]) << 16);
}
void put(void* data, DType dtype, int64_t at, float value) {
  if (dtype == DType::f32) {
    static_cast<float*>(data)[at] = value;
    return;
  }
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  static_cast<uint16_t*>(data)[at] = static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 64 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void multiply(const Product& p, const void* a, const void* b, void* c, const void* addend) {
  std::vector<float> left(static_cast<size_t>(p.k)), right(static_cast<size_t>(p.k * p.n)), row(static_cast<size_t>(p.n));
  for (int64_t l = 0; l < p.k; l++)
    for (int64_t j = 0; j < p.n; j++) right[static_cast<size_t>(l * p.n + j)] = value_at(b, p.operands, p.transpose_b ? j * p.ldb + l : l * p.ldb + j);
  for (int64_t i = 0; i < p.m; i++) {
    for (int64_t l = 0; l < p.k; l++) left[static_cast<size_t>(l)] = value_at(a, p.operands, p.transpose_a ? l * p.lda + i : i * p.lda + l);
    row.assign(row.size(), 0.0f);
    for (int64_t l = 0; l < p.k; l++) {
      const float x = left[static_cast<size_t>(l)];
      const float* y = right.data() + l * p.n;
      for (int64_t j = 0; j < p.n; j++) row[static_cast<size_t>(j)] += x * y[j];
    }
    for (int64_t j = 0; j < p.n; j++) {
      float sum = row[static_cast<size_t>(j)];
      if (addend) sum += value_at(addend, p.result, i * p.ldc + j);
      if (p.bias) sum += value_at(p.bias, p.result, j);
      put(c, p.result, i * p.ldc + j, sum);
    }
  }
}

}  // namespace

struct Products::State {
  void* scratch = nullptr;
  State() { cudaMalloc(&scratch, kScratch); }
  ~State() { cudaFree(scratch); }
};

Products::Products() = default;
Products::~Products() = default;

void* Products::scratch() {
  if (!state_) state_ = std::make_unique<State>();
  return state_->scratch;
}

void Products::run(const Product& product, Stream& stream) {
  const size_t operand = size_of(product.operands), result = size_of(product.result);
  emulation::enqueue(stream.handle, "matrix product", [p = product, operand, result] {
    for (int64_t i = 0; i < p.batch; i++) {
      const auto shift = [i](const void* data, int64_t step, size_t size) { return data ? static_cast<const char*>(data) + i * step * static_cast<int64_t>(size) : nullptr; };
      multiply(p, shift(p.a, p.a_step, operand), shift(p.b, p.b_step, operand), static_cast<char*>(p.c) + i * p.c_step * static_cast<int64_t>(result), shift(p.addend, p.c_step, result));
    }
  });
}

}  // namespace simmim::cuda
