// A number that two builds share when they have the same kernels: names and sizes of arguments, in order.
#pragma once
#include <cstdint>

namespace simmim {

uint64_t kernels_fingerprint();

}  // namespace simmim
