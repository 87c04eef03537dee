#include "device.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace simmim {

void (*(*host_kernel_function)(int kernel))(const void* args) = nullptr;

namespace {
constexpr size_t kAlign = 64;
[[maybe_unused]] constexpr size_t kPage = size_t{64} << 10;  // a multiple of what systems have
constexpr size_t kHuge = size_t{2} << 20;  // transparent huge pages: touching them is about five times faster
}  // namespace

const std::string& HostDevice::name() const {
  static const std::string cpu = "cpu";
  return cpu;
}

#if defined(__SANITIZE_ADDRESS__)  // memory of exactly the size asked for
void* HostDevice::allocate(size_t bytes) {
  void* data = nullptr;
  return posix_memalign(&data, kAlign, bytes) == 0 ? data : nullptr;
}
#else
void* HostDevice::allocate(size_t bytes) {
  const bool huge = bytes >= 2 * kHuge;
  void* data = std::aligned_alloc(huge ? kHuge : kAlign, huge ? (bytes + kHuge - 1) / kHuge * kHuge : bytes);
#if defined(__linux__)
  if (data && huge) madvise(data, bytes, MADV_HUGEPAGE);
#endif
  return data;
}
#endif

void HostDevice::release(void* data, size_t) { std::free(data); }

void HostDevice::discard([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes) {
#if defined(__linux__)
  const uintptr_t start = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage, end = (reinterpret_cast<uintptr_t>(data) + bytes) / kPage * kPage;
  if (end > start) madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
#endif
}

void HostDevice::write(void* to, const void* from, size_t bytes) {
  if (bytes) std::memcpy(to, from, bytes);
}
void HostDevice::read(void* to, const void* from, size_t bytes) {
  if (bytes) std::memcpy(to, from, bytes);
}
std::function<void(void* to)> HostDevice::read_later(const void* from, size_t bytes) {
  return [from, bytes](void* to) {
    if (bytes) std::memcpy(to, from, bytes);
  };
}

}  // namespace simmim
