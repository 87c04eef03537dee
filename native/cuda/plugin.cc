// The entry of the plugin: the functions of core/plugin.h over Session. The one place of this library that catches.
#include "../core/plugin.h"

#include <cstdio>
#include <cstring>
#include <new>

#include "../core/error.h"
#include "check.h"
#include "library.h"
#include "session.h"
#include "table.h"

namespace simmim::cuda {
namespace {

void report(PluginError* error, const char* code, const std::string& op, const char* message) {
  snprintf(error->code, sizeof error->code, "%s", code);
  if (op.empty()) snprintf(error->message, sizeof error->message, "%s", message);
  else snprintf(error->message, sizeof error->message, "%s (in %s)", message, op.c_str());
}

template <class F>
int guarded(PluginError* error, const F& body) {
  try {
    body();
    return 0;
  } catch (const Error& e) {
    report(error, e.code(), e.op(), e.what());
  } catch (const std::bad_alloc&) {
    report(error, "out_of_memory", "", "the system refused memory");
  }
  return 1;
}

/// As guarded, on a session whose device is there; losing it is remembered.
template <class F>
int with_session(void* pointer, PluginError* error, const F& body) {
  auto& session = *static_cast<Session*>(pointer);
  const int failed = guarded(error, [&] {
    session.enter();
    body(session);
  });
  if (failed && !std::strcmp(error->code, "device_lost") && !session.is_lost()) session.lose(error->message);
  return failed;
}

int describe(char* text, size_t size, PluginError* error) {
  return guarded(error, [&] { snprintf(text, size, "%s", describe_runtime().c_str()); });
}

int count(int32_t* devices, PluginError* error) {
  return guarded(error, [&] {
    int n = 0;
    SIMMIM_CUDA_CALL(cudaGetDeviceCount(&n));
    *devices = n;
  });
}

int inspect(int32_t device, PluginDevice* info, PluginError* error) {
  return guarded(error, [&] {
    cudaDeviceProp properties;
    SIMMIM_CUDA_CALL(cudaGetDeviceProperties(&properties, device));
    SIMMIM_CUDA_CALL(cudaSetDevice(device));
    size_t free = 0, total = 0;
    SIMMIM_CUDA_CALL(cudaMemGetInfo(&free, &total));
    snprintf(info->name, sizeof info->name, "%s", properties.name);
    info->memory_bytes = total;
    info->free_bytes = free;
    info->major = properties.major;
    info->minor = properties.minor;
    info->multiprocessors = properties.multiProcessorCount;
    info->strict = kEmulated;
  });
}

int open(int32_t device, void** session, PluginError* error) {
  return guarded(error, [&] { *session = std::make_unique<Session>(device).release(); });
}
void close(void* session) { std::unique_ptr<Session>(static_cast<Session*>(session)).reset(); }

int allocate(void* session, size_t bytes, void** data, PluginError* error) {
  return with_session(session, error, [&](Session& s) { *data = s.allocate(bytes); });
}
int release(void* session, void* data, size_t, PluginError* error) {
  return with_session(session, error, [&](Session& s) { s.release(data); });
}
int poison(void* session, void* data, size_t bytes, PluginError* error) {
  return with_session(session, error, [&](Session& s) { s.poison(data, bytes); });
}
int write(void* session, void* to, const void* from, size_t bytes, PluginError* error) {
  return with_session(session, error, [&](Session& s) { s.write(to, from, bytes); });
}
int read(void* session, void* to, const void* from, size_t bytes, PluginError* error) {
  return with_session(session, error, [&](Session& s) { s.read(to, from, bytes); });
}
int has(int32_t kernel) { return kernel >= 0 && kernel < kernel_count && kernel_table[kernel] != nullptr; }
int run(void* session, int32_t kernel, const void* args, PluginError* error) {
  return with_session(session, error, [&](Session& s) { s.run({kernel, args}); });
}
int prepare(void* session, const KernelCall* calls, size_t n, void** replayable, PluginError* error) {
  return with_session(session, error, [&](Session& s) { *replayable = s.capture(calls, n).release(); });
}
int replay(void* session, void* replayable, PluginError* error) {
  return with_session(session, error, [&](Session& s) { s.launch(*static_cast<Graph*>(replayable)); });
}
int synchronise(void* session, PluginError* error) {
  return with_session(session, error, [](Session& s) { s.synchronise(); });
}
void forget(void* session, void* replayable) {
  PluginError ignored{};  // of a lost device, whose graph still has to go
  synchronise(session, &ignored);
  std::unique_ptr<Graph>(static_cast<Graph*>(replayable)).reset();
}
int begin(void* session, const void* from, size_t bytes, void** ticket, PluginError* error) {
  return with_session(session, error, [&](Session& s) { *ticket = std::make_unique<Ticket>(s.begin(from, bytes)).release(); });
}
int finish(void* session, void* ticket, void* to, PluginError* error) {
  return guarded(error, [&] {  // on any thread
    const std::unique_ptr<Ticket> owned(static_cast<Ticket*>(ticket));
    static_cast<Session*>(session)->finish(*owned, to);
  });
}

}  // namespace
}  // namespace simmim::cuda

extern "C" __attribute__((visibility("default"))) const simmim::Plugin* simmim_plugin() {
  using namespace simmim::cuda;
  static const simmim::Plugin plugin{simmim::kPluginApi, kernels_of_table(), "cuda", SIMMIM_CUDA_BUILD, kEmulated ? 1 : 100,
                                     &describe,  &count,  &inspect, &open,    &close,  &allocate, &release,     &poison, &write,
                                     &read,      &has,    &run,     &prepare, &replay, &forget,   &synchronise, &begin,  &finish};
  return &plugin;
}
