// Where tensors live and kernels run. The host is always there (HostDevice); others come from plugins (plugin.h).
// A Device belongs to one JavaScript environment and keeps one order: whatever is asked of it runs after everything
// asked before.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace simmim {

/// A kernel by number (kernels.def) with its decoded arguments, which live elsewhere.
struct KernelCall {
  int kernel;
  const void* args;
};

/// A list of calls made ready to be run again and again.
class Replayable {
 public:
  virtual ~Replayable() = default;
  virtual void enqueue() = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  virtual const std::string& name() const = 0;  // "cpu", "cuda:0"
  /// Whether host code may read and write its memory.
  virtual bool on_host() const = 0;
  /// For tests: memory is neither rounded up nor handed out twice without being overwritten, so that stray accesses show.
  virtual bool strict() const { return false; }

  /// 64-byte aligned memory, not cleared; null when there is none left.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* data, size_t bytes) = 0;
  /// Part of what was allocated holds nothing for now: a system that can takes its pages back until they are written again.
  virtual void discard(void*, size_t) {}
  /// What the memory of a strict device holds before anything is written.
  virtual void poison(void*, size_t) {}

  /// From host memory, which may change as soon as this returns.
  virtual void write(void* to, const void* from, size_t bytes) = 0;
  /// To host memory; the bytes are there when this returns.
  virtual void read(void* to, const void* from, size_t bytes) = 0;
  /// Reads what is there now; the function returned waits and hands the bytes over, on any thread.
  virtual std::function<void(void* to)> read_later(const void* from, size_t bytes) = 0;

  /// Whether there is a version of a kernel for this device.
  virtual bool has(int kernel) const = 0;
  virtual void run(const KernelCall& call) = 0;
  /// The list must outlive what is returned; null when replaying means running the list.
  virtual std::unique_ptr<Replayable> prepare(const std::vector<KernelCall>& calls) = 0;
  /// Waits for everything asked for so far.
  virtual void synchronise() = 0;
  /// The function returned waits for everything asked for so far, on any thread.
  virtual std::function<void()> mark() = 0;
};

/// The functions of kernels/ on the host, which core does not depend on; set once by the binding.
extern void (*(*host_kernel_function)(int kernel))(const void* args);

class HostDevice final : public Device {
 public:
  const std::string& name() const override;
  bool on_host() const override { return true; }
  void* allocate(size_t bytes) override;
  void release(void* data, size_t bytes) override;
  void discard(void* data, size_t bytes) override;
  void write(void* to, const void* from, size_t bytes) override;
  void read(void* to, const void* from, size_t bytes) override;
  std::function<void(void* to)> read_later(const void* from, size_t bytes) override;
  bool has(int) const override { return true; }
  void run(const KernelCall& call) override { host_kernel_function(call.kernel)(call.args); }
  std::unique_ptr<Replayable> prepare(const std::vector<KernelCall>&) override { return nullptr; }
  void synchronise() override {}
  std::function<void()> mark() override { return [] {}; }
};

}  // namespace simmim
