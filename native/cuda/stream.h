// What a kernel's run() gets: the queue of its device and what it may know of it.
#pragma once
#include "runtime.h"

namespace simmim::cuda {

class Products;

struct Stream {
  cudaStream_t handle = nullptr;
  int multiprocessors = 1;
  size_t shared_limit = 48 << 10;  // bytes of shared memory one block may ask for
  Products* products = nullptr;    // matrix products (gemm.h)
};

}  // namespace simmim::cuda
