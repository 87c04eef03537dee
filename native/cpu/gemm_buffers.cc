#include "gemm_shared.h"

#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>

namespace simmim {
namespace {

struct Buffer {
  float* data = nullptr;
  size_t floats = 0;
  ~Buffer() { ::operator delete(data, std::align_val_t{64}); }
};

thread_local Buffer buffers[6];

}  // namespace

float* gemm_buffer(GemmBuffer which, size_t floats) {
  Buffer& buffer = buffers[static_cast<int>(which)];
  if (floats <= buffer.floats) return buffer.data;
  ::operator delete(buffer.data, std::align_val_t{64});
  buffer.data = static_cast<float*>(::operator new(floats * sizeof(float), std::align_val_t{64}, std::nothrow));
  if (!buffer.data) {
    // At most a few megabytes, asked for in the middle of a kernel on some thread: nobody could recover here.
    std::fprintf(stderr, "simmim: no memory for %zu bytes of matrix product scratch\n", floats * sizeof(float));
    std::abort();
  }
  buffer.floats = floats;
  return buffer.data;
}

void wait_for(const int32_t* counter, int32_t value) {
  for (int spins = 0; __atomic_load_n(counter, __ATOMIC_ACQUIRE) < value;)
    if (++spins > 2000) std::this_thread::yield();  // the other thread may have lost its core
#if defined(__x86_64__)
    else __builtin_ia32_pause();
#endif
}

}  // namespace simmim
