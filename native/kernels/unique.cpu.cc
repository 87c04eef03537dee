#include "unique.h"

#include "../cpu/thread_pool.h"

namespace simmim::SIMMIM_ISA {

namespace {

template <class T>
void find_unique(const Unique& k) {
  const Slices<T> slices{k.x.as<T>(), k.x.dim(0), k.x.dim(1), k.x.dim(2)};
  const int64_t n = slices.count, places = k.places();
  uint32_t* hashes = static_cast<uint32_t*>(k.workspace);
  int32_t* table = reinterpret_cast<int32_t*>(hashes + n);  // numbers of unique slices, -1 where free
  parallel_ranges(n, 8192 / (slices.outer * slices.inner + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) hashes[i] = slices.hash(i);
  });
  for (int64_t i = 0; i < places; i++) table[i] = -1;
  int32_t *index = k.index.i32(), *first = k.first.i32(), found = 0;
  for (int64_t i = 0; i < n; i++) {
    int64_t at = hashes[i] & (places - 1);
    while (table[at] >= 0 && !(hashes[first[table[at]]] == hashes[i] && slices.equal(first[table[at]], i))) at = (at + 1) & (places - 1);
    if (table[at] < 0) {
      table[at] = found;
      first[found++] = static_cast<int32_t>(i);
    }
    index[i] = table[at];
  }
  k.count.i32()[0] = found;
  for (int64_t i = found; i < n; i++) first[i] = 0;
}

}  // namespace

void run(const Unique& k) {
  switch (k.x.dtype) {
    case DType::f32: return find_unique<float>(k);
    case DType::i32: return find_unique<int32_t>(k);
    default: return find_unique<uint8_t>(k);
  }
}

}  // namespace simmim::SIMMIM_ISA
