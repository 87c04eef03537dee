// One AdamW step on flat buffers, in PyTorch's order (Loshchilov & Hutter 2019; torch.optim.AdamW):
//   g = gradient min(1, clip / (norm + 1e-6));  w *= 1 - lr decay;  m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g²
//   w -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
// Segment s is [ends[s-1], ends[s]); there lr = hyper[0] lr_scale[s] and decay = hyper[1] decay_scale[s]. A norm that is not
// finite leaves everything as it is. Parallel over blocks; 28 bytes an element, 30 with the bf16 copy of the weights.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct AdamW {
  static constexpr const char* name = "adamw";
  Tensor weights, m, v;          // [n]
  Tensor gradient;               // [n]
  Tensor norm;                   // scalar, of all gradients
  Tensor ends;                   // [S], ascending
  Tensor lr_scale, decay_scale;  // [S]
  Tensor hyper;                  // [8]: lr, weight decay, 1 - beta1, 1 - beta2, eps, 1 - beta1^t, 1 - beta2^t, clip (0 = none)
  Tensor shadow;                 // [n], bf16 copy of the new weights, optional
  static auto spec() {
    return fields(inout("weights", &AdamW::weights, kF32), inout("m", &AdamW::m, kF32), inout("v", &AdamW::v, kF32), in("gradient", &AdamW::gradient, kF32),
                  in("norm", &AdamW::norm, kF32), in("ends", &AdamW::ends, kI32), in("lr_scale", &AdamW::lr_scale, kF32),
                  in("decay_scale", &AdamW::decay_scale, kF32), in("hyper", &AdamW::hyper, kF32), optional_inout("shadow", &AdamW::shadow, kBF16));
  }
  void check_flat(const char* name, const Tensor& t) const {
    require(t.count() == weights.count(), "%s has %lld values, expected %lld as weights", name, (long long)t.count(), (long long)weights.count());
  }
  void check_segments(const char* name, const Tensor& t) const {
    require(t.count() == ends.count(), "%s has %lld values, expected %lld as ends", name, (long long)t.count(), (long long)ends.count());
  }
  void check() const {
    check_flat("m", m);
    check_flat("v", v);
    check_flat("gradient", gradient);
    if (shadow.present()) check_flat("shadow", shadow);
    require(norm.count() == 1, "norm has %lld values, expected a scalar", (long long)norm.count());
    require(ends.count() >= 1, "ends is empty, expected at least one segment");
    check_segments("lr_scale", lr_scale);
    check_segments("decay_scale", decay_scale);
    require(hyper.count() == 8, "hyper has %lld values, expected 8", (long long)hyper.count());
  }
};

}  // namespace simmim
