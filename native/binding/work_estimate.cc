#include "work_estimate.h"

#include <cmath>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "../kernels/registry.h"

namespace simmim {
namespace {

/// Kernels that multiply matrices. Their three largest tensors have m * k, k * n and m * n elements (a convolution's nearly
/// so), and the root of the product is the number of multiplications.
constexpr double kProduct = 0;
constexpr double kMultiplicationsPerUnit = 8;

/// Units a byte of kernels that do more with it than read or write it.
double weight_of(std::string_view name) {
  static const std::map<std::string_view, double> weights{
      {"matmul", kProduct}, {"conv", kProduct}, {"conv_input_grad", kProduct}, {"conv_filter_grad", kProduct}, {"linear", kProduct}, {"linear_grad", kProduct},
      {"mlp", kProduct}, {"mlp_grad", kProduct}, {"patch_embed", kProduct}, {"patch_embed_grad", kProduct},
      {"attention", 16}, {"attention_grad", 32}, {"window_attention", 16}, {"window_attention_grad", 32}, {"fft", 8}, {"top_k", 8}, {"unique", 8}, {"search_sorted", 8}, {"multinomial", 8},
      {"non_max_suppression", 32}, {"random_values", 16}, {"depthwise", 4}, {"depthwise_input_grad", 4}, {"depthwise_filter_grad", 4}, {"pool", 4}, {"pool_grad", 4}, {"dilation", 8},
      {"dilation_input_grad", 8}, {"dilation_filter_grad", 8}, {"lrn", 4}, {"lrn_grad", 8}, {"resize", 4}, {"resize_grad", 4}, {"crop_and_resize", 4}, {"transform", 4}, {"rotate", 4}};
  const auto found = weights.find(name);
  return found == weights.end() ? 1 : found->second;
}

double weight_of(int kernel) {
  static const std::vector<double> by_id = [] {
    std::vector<double> out;
    for (int i = 0; i < kernel_count(); i++) out.push_back(weight_of(std::string_view(kernel_at(i).name)));
    return out;
  }();
  return by_id[static_cast<size_t>(kernel)];
}

/// Calls f(dtype, elements) for every tensor of a decoded mailbox.
template <class F>
void each_tensor(const int32_t* words, int count, const F& f) {
  for (int at = 0; at + 3 <= count; at += 3 + words[at + 2]) {
    if (words[at] == -1) continue;
    int64_t elements = 1;
    for (int i = 0; i < words[at + 2]; i++) elements *= words[at + 3 + i];
    f(static_cast<DType>(words[at + 1]), elements);
  }
}

double work_of_product(const int32_t* words, int count) {
  double bytes = 0, largest[3] = {0, 0, 0};
  each_tensor(words, count, [&](DType dtype, int64_t tensor) {
    double elements = static_cast<double>(tensor);
    bytes += elements * static_cast<double>(size_of(dtype));
    for (double& place : largest)
      if (elements > place) std::swap(elements, place);
  });
  return bytes + std::sqrt(largest[0] * largest[1] * largest[2]) / kMultiplicationsPerUnit;
}

}  // namespace

double work_of(int kernel, const int32_t* words, int count) {
  const double weight = weight_of(kernel);
  if (weight == kProduct) return work_of_product(words, count);
  int64_t bytes = 0;
  each_tensor(words, count, [&](DType dtype, int64_t elements) { bytes += elements * static_cast<int64_t>(size_of(dtype)); });
  return static_cast<double>(bytes) * weight;
}

}  // namespace simmim
