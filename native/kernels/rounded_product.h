// Products that are rounded before they go into a sum. Compilers fuse a b + c where they may (-ffp-contract=fast, nvcc's -fmad),
// which rounds once instead of twice: where the sum decides which pixel is read or which box is kept, instruction sets and devices
// would choose differently, and otherwise than JavaScript.
#pragma once
#include "../core/tensor.h"

namespace simmim {

SIMMIM_INLINE double rounded_product(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dmul_rn(a, b);
#else
  volatile double product = a * b;
  return product;
#endif
}

}  // namespace simmim
