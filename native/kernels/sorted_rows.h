// Keys that a GPU sorts in place, 64 bits each, padded to a power of two.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../core/tensor.h"

namespace simmim {

constexpr int64_t kFewRows = 256;  // writes that one thread per column does in order

SIMMIM_INLINE int64_t power_of_two_from(int64_t n) {
  int64_t p = 1;
  while (p < n) p *= 2;
  return p;
}
SIMMIM_INLINE size_t sorted_rows_bytes(int64_t rows) { return rows > kFewRows ? static_cast<size_t>(power_of_two_from(rows)) * 8 : 0; }

}  // namespace simmim
