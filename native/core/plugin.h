// The C interface of a shared library that brings devices (native/cuda builds one), and how it is opened. The addon
// needs nothing of such a library until a device is asked for.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device.h"

namespace simmim {

/// What went wrong: `code` is one of ts/errors.ts's ErrorCode, the message one sentence.
struct PluginError {
  char code[32];
  char message[992];
};

struct PluginDevice {
  char name[256];            // "NVIDIA H200"
  uint64_t memory_bytes, free_bytes;
  int32_t major, minor;      // compute capability
  int32_t multiprocessors;
  int32_t strict;            // Device::strict()
};

/// To be changed whenever a field, or the layout of a kernel's arguments beyond their size, changes its meaning.
constexpr uint32_t kPluginApi = 1;

/// Functions return 0, or 1 with `error` filled in. A session is one device for one JavaScript environment; it is used
/// by one thread, but for finish(). A ticket stands for work that was asked for.
struct Plugin {
  uint32_t api;
  uint64_t kernels;       // kernels_fingerprint() of kernels/
  const char* name;       // names its devices: "cuda"
  const char* build;      // "CUDA 13.0; sm_80, sm_90a, PTX 9.0"
  int32_t score;          // of several libraries that work, the highest is taken
  int (*describe)(char* text, size_t size, PluginError* error);  // driver and libraries found at run time
  int (*count)(int32_t* devices, PluginError* error);
  int (*inspect)(int32_t device, PluginDevice* info, PluginError* error);
  int (*open)(int32_t device, void** session, PluginError* error);
  void (*close)(void* session);
  int (*allocate)(void* session, size_t bytes, void** data, PluginError* error);  // null when there is none left
  int (*release)(void* session, void* data, size_t bytes, PluginError* error);
  int (*poison)(void* session, void* data, size_t bytes, PluginError* error);
  int (*write)(void* session, void* to, const void* from, size_t bytes, PluginError* error);
  int (*read)(void* session, void* to, const void* from, size_t bytes, PluginError* error);
  int (*has)(int32_t kernel);
  int (*run)(void* session, int32_t kernel, const void* args, PluginError* error);
  int (*prepare)(void* session, const KernelCall* calls, size_t count, void** replayable, PluginError* error);
  int (*replay)(void* session, void* replayable, PluginError* error);
  void (*forget)(void* session, void* replayable);
  int (*synchronise)(void* session, PluginError* error);
  /// A ticket for everything asked for so far; with `from`, its bytes as they are then.
  int (*begin)(void* session, const void* from, size_t bytes, void** ticket, PluginError* error);
  /// Waits, hands the bytes over (`to` may be null) and frees the ticket. On any thread.
  int (*finish)(void* session, void* ticket, void* to, PluginError* error);
};

/// A plugin that was opened; it stays in the process.
class PluginLibrary {
 public:
  /// Throws Error{not_found} or Error{unsupported} with one sentence; `kernels` is the fingerprint it must have.
  static const PluginLibrary& open(const std::string& path, uint64_t kernels);

  const std::string& path() const { return path_; }
  const Plugin& plugin() const { return *plugin_; }
  std::string describe() const;
  std::vector<PluginDevice> devices() const;
  /// A session on a device. Throws Error{unsupported} with the reason when there is no such device.
  std::unique_ptr<Device> open_device(int number) const;

 private:
  PluginLibrary(std::string path, const Plugin* plugin) : path_(std::move(path)), plugin_(plugin) {}
  std::string path_;
  const Plugin* plugin_;
};

}  // namespace simmim
