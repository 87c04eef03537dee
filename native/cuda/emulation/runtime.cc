#include "runtime.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>
#include <vector>

#include "../../core/error.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

struct EmulatedGraph {
  std::vector<std::function<void()>> work;
  int owners = 1;
};
struct EmulatedStream {
  EmulatedGraph* capturing = nullptr;
};
struct EmulatedEvent {};

namespace simmim::emulation {
namespace {

constexpr size_t kAlign = 256, kGuard = 256;  // the device's own alignment, and as much before and behind each allocation
constexpr unsigned char kGuardByte = 0xa5;

/// Device memory: every allocation between two guards, which are looked at after every kernel.
class Memory {
 public:
  cudaError_t allocate(void** data, size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (live_ + bytes > limit()) return cudaErrorMemoryAllocation;
    const size_t whole = (kGuard + bytes + kGuard + kAlign - 1) / kAlign * kAlign;
    auto* memory = static_cast<unsigned char*>(std::aligned_alloc(kAlign, whole));
    if (!memory) return cudaErrorMemoryAllocation;
    std::memset(memory, kGuardByte, kGuard);
    std::memset(memory + kGuard + bytes, kGuardByte, kGuard);
    guard(memory, bytes, true);
    blocks_[memory + kGuard] = bytes;
    live_ += bytes;
    *data = memory + kGuard;
    return cudaSuccess;
  }
  cudaError_t release(void* data) {
    if (!data) return cudaSuccess;
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = blocks_.find(static_cast<unsigned char*>(data));
    if (found == blocks_.end()) return cudaErrorInvalidValue;
    guard(found->first - kGuard, found->second, false);
    live_ -= found->second;
    std::free(found->first - kGuard);
    blocks_.erase(found);
    return cudaSuccess;
  }
  void check(const char* what) {
#if !defined(__SANITIZE_ADDRESS__)
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [data, bytes] : blocks_)
      for (size_t i = 0; i < kGuard; i++)
        if (data[-1 - static_cast<ptrdiff_t>(i)] != kGuardByte || data[bytes + i] != kGuardByte) {
          std::memset(data - kGuard, kGuardByte, kGuard);
          std::memset(data + bytes, kGuardByte, kGuard);
          fail_as("internal", "%s: wrote outside a block of %zu bytes of device memory", what, bytes);
        }
#else
    (void)what;
#endif
  }
  void info(size_t* free, size_t* total) {
    const std::lock_guard<std::mutex> lock(mutex_);
    *total = limit();
    *free = live_ < *total ? *total - live_ : 0;
  }

 private:
  /// SIMMIM_EMULATION_MEMORY: bytes of device memory, for tests of running out of it.
  static size_t limit() {
    const char* wish = std::getenv("SIMMIM_EMULATION_MEMORY");
    return wish ? std::strtoull(wish, nullptr, 10) : size_t{16} << 30;
  }
  static void guard([[maybe_unused]] unsigned char* memory, [[maybe_unused]] size_t bytes, [[maybe_unused]] bool on) {
#if defined(__SANITIZE_ADDRESS__)
    for (unsigned char* part : {memory, memory + kGuard + bytes}) {
      if (on) __asan_poison_memory_region(part, kGuard);
      else __asan_unpoison_memory_region(part, kGuard);
    }
#endif
  }
  std::mutex mutex_;
  std::unordered_map<unsigned char*, size_t> blocks_;
  size_t live_ = 0;
};

Memory memory;

/// The stream that this thread is capturing: meanwhile it must not call what takes, frees or waits for memory or work, nor copy
/// from or to the host.
thread_local cudaStream_t captured = nullptr;
cudaError_t unless_capturing(const std::function<cudaError_t()>& call) { return captured ? cudaErrorStreamCaptureUnsupported : call(); }

/// SIMMIM_EMULATION_LOSE=n: the n-th kernel or graph that sees the variable fails as if it had touched a wrong address,
/// and so does everything after it.
std::atomic<bool> lost{false};
bool lost_by_now() {
  static std::atomic<long> seen{0};
  const char* wish = std::getenv("SIMMIM_EMULATION_LOSE");
  if (wish && ++seen >= std::atol(wish)) lost = true;
  return lost;
}

}  // namespace

static cudaError_t enqueue_unless(bool gone, cudaStream_t stream, const char* what, std::function<void()> work) {
  auto whole = [what, work = std::move(work)] {
    work();
    memory.check(what);
  };
  if (stream->capturing) {
    stream->capturing->work.push_back(std::move(whole));
    return cudaSuccess;
  }
  if (gone) return cudaErrorIllegalAddress;
  whole();
  return cudaSuccess;
}

cudaError_t enqueue(cudaStream_t stream, const char* what, std::function<void()> work) { return enqueue_unless(!stream->capturing && lost_by_now(), stream, what, std::move(work)); }

}  // namespace simmim::emulation

using simmim::emulation::captured;
using simmim::emulation::memory;
using simmim::emulation::unless_capturing;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    default: return "cudaErrorUnknown";
  }
}
const char* cudaGetErrorString(cudaError_t error) { return error == cudaErrorIllegalAddress ? "an illegal memory access was encountered (emulated)" : "emulated error"; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 0, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 0, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "emulated on the host");
  size_t free = 0;
  memory.info(&free, &properties->totalGlobalMem);
  properties->sharedMemPerBlockOptin = 227 << 10;
  properties->major = 9;
  properties->multiProcessorCount = 2;  // few, so that loops over the grid take several turns
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { return memory.info(free, total), cudaSuccess; }
cudaError_t cudaMalloc(void** data, size_t bytes) {
  return unless_capturing([&] { return memory.allocate(data, bytes); });
}
cudaError_t cudaFree(void* data) {
  return unless_capturing([&] { return memory.release(data); });
}
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  return unless_capturing([&] { return (*data = std::malloc(bytes)) ? cudaSuccess : cudaErrorMemoryAllocation; });
}
cudaError_t cudaFreeHost(void* data) {
  return unless_capturing([&] { return std::free(data), cudaSuccess; });
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (stream->capturing && kind != cudaMemcpyDeviceToDevice) return cudaErrorStreamCaptureUnsupported;
  return simmim::emulation::enqueue_unless(simmim::emulation::lost, stream, "cudaMemcpyAsync", [=] { std::memmove(to, from, bytes); });
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return simmim::emulation::enqueue_unless(simmim::emulation::lost, stream, "cudaMemsetAsync", [=] { std::memset(to, value, bytes); });
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return *stream = std::make_unique<EmulatedStream>().release(), cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return std::unique_ptr<EmulatedStream>(stream).reset(), cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return unless_capturing([] { return simmim::emulation::lost ? cudaErrorIllegalAddress : cudaSuccess; });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = std::make_unique<EmulatedEvent>().release(), cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return unless_capturing([] { return cudaSuccess; });
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return std::unique_ptr<EmulatedEvent>(event).reset(), cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  captured = stream;
  return stream->capturing = std::make_unique<EmulatedGraph>().release(), cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  captured = nullptr;
  *graph = stream->capturing;
  stream->capturing = nullptr;
  return *graph ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  graph->owners++;
  return *exec = graph, cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
  if (simmim::emulation::lost_by_now()) return cudaErrorIllegalAddress;
  for (const auto& work : exec->work) work();
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return cudaGraphDestroy(exec); }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  if (--graph->owners == 0) std::unique_ptr<EmulatedGraph>(graph).reset();
  return cudaSuccess;
}
