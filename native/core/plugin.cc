#include "plugin.h"

#include <dlfcn.h>

#include <map>
#include <mutex>

#include "error.h"

namespace simmim {
namespace {

/// Calls a function of the plugin and throws what it reports.
template <class... P, class... A>
void call(int (*function)(P...), A... args) {
  PluginError error{};
  if (function(args..., &error) != 0) throw Error(error.code, "", error.message);
}

class PluginSession final : public Device {
 public:
  PluginSession(const Plugin& plugin, int number) : plugin_(plugin), name_(std::string(plugin.name) + ":" + std::to_string(number)) {
    PluginDevice info{};
    call(plugin.inspect, number, &info);
    strict_ = info.strict != 0;
    call(plugin.open, number, &session_);
  }
  ~PluginSession() override { plugin_.close(session_); }

  const std::string& name() const override { return name_; }
  bool on_host() const override { return false; }
  bool strict() const override { return strict_; }
  void* allocate(size_t bytes) override {
    void* data = nullptr;
    call(plugin_.allocate, session_, bytes, &data);
    return data;
  }
  void release(void* data, size_t bytes) override {
    PluginError ignored{};  // of a lost device: its memory went with it, and every call says so
    plugin_.release(session_, data, bytes, &ignored);
  }
  void poison(void* data, size_t bytes) override { call(plugin_.poison, session_, data, bytes); }
  void write(void* to, const void* from, size_t bytes) override {
    if (bytes) call(plugin_.write, session_, to, from, bytes);
  }
  void read(void* to, const void* from, size_t bytes) override {
    if (bytes) call(plugin_.read, session_, to, from, bytes);
  }
  std::function<void(void* to)> read_later(const void* from, size_t bytes) override {
    return [ticket = begin(from, bytes)](void* to) { ticket->finish(to); };
  }
  bool has(int kernel) const override { return plugin_.has(kernel) != 0; }
  void run(const KernelCall& kernel) override { call(plugin_.run, session_, kernel.kernel, kernel.args); }
  std::unique_ptr<Replayable> prepare(const std::vector<KernelCall>& calls) override {
    void* made = nullptr;
    call(plugin_.prepare, session_, calls.data(), calls.size(), &made);
    if (!made) return nullptr;
    return std::make_unique<Prepared>(*this, made);
  }
  void synchronise() override { call(plugin_.synchronise, session_); }
  std::function<void()> mark() override {
    return [ticket = begin(nullptr, 0)] { ticket->finish(nullptr); };
  }

 private:
  class Prepared final : public Replayable {
   public:
    Prepared(PluginSession& session, void* made) : session_(session), made_(made) {}
    ~Prepared() override { session_.plugin_.forget(session_.session_, made_); }
    void enqueue() override { call(session_.plugin_.replay, session_.session_, made_); }

   private:
    PluginSession& session_;
    void* made_;
  };
  /// Finished once, by whoever waits or else when it goes.
  class Ticket {
   public:
    Ticket(PluginSession& session, void* ticket) : session_(session), ticket_(ticket) {}
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;
    ~Ticket() {
      PluginError ignored{};
      if (ticket_) session_.plugin_.finish(session_.session_, ticket_, nullptr, &ignored);
    }
    void finish(void* to) {
      void* ticket = ticket_;
      ticket_ = nullptr;
      call(session_.plugin_.finish, session_.session_, ticket, to);
    }

   private:
    PluginSession& session_;
    void* ticket_;
  };
  std::shared_ptr<Ticket> begin(const void* from, size_t bytes) {
    void* ticket = nullptr;
    call(plugin_.begin, session_, from, bytes, &ticket);
    return std::make_shared<Ticket>(*this, ticket);
  }

  const Plugin& plugin_;
  std::string name_;
  bool strict_ = false;
  void* session_ = nullptr;
};

}  // namespace

const PluginLibrary& PluginLibrary::open(const std::string& path, uint64_t kernels) {
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<PluginLibrary>> opened;
  const std::lock_guard<std::mutex> lock(mutex);
  if (const auto known = opened.find(path); known != opened.end()) return *known->second;
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) fail_as("not_found", "the plugin %s cannot be opened: %s", path.c_str(), dlerror());
  std::unique_ptr<void, int (*)(void*)> unless_kept(library, dlclose);
  auto* get = reinterpret_cast<const Plugin* (*)()>(dlsym(library, "simmim_plugin"));
  if (!get) fail_as("unsupported", "%s is not a plugin of simmim: it has no simmim_plugin", path.c_str());
  const Plugin* plugin = get();
  if (plugin->api != kPluginApi) fail_as("unsupported", "the plugin %s speaks version %u of the interface, this addon version %u: build both from the same sources", path.c_str(), plugin->api, kPluginApi);
  if (plugin->kernels != kernels) fail_as("unsupported", "the plugin %s has other kernels than this addon: build both from the same sources", path.c_str());
  unless_kept.release();
  return *opened.emplace(path, std::unique_ptr<PluginLibrary>(new PluginLibrary(path, plugin))).first->second;
}

std::string PluginLibrary::describe() const {
  char text[1024] = "";
  call(plugin_->describe, text, sizeof text);
  return text;
}

std::vector<PluginDevice> PluginLibrary::devices() const {
  int32_t count = 0;
  call(plugin_->count, &count);
  std::vector<PluginDevice> out(static_cast<size_t>(count));
  for (int32_t i = 0; i < count; i++) call(plugin_->inspect, i, &out[static_cast<size_t>(i)]);
  return out;
}

std::unique_ptr<Device> PluginLibrary::open_device(int number) const {
  int32_t count = 0;
  call(plugin_->count, &count);
  if (number < 0 || number >= count) fail_as("unsupported", "there is no device %s:%d: %s finds %d", plugin_->name, number, path_.c_str(), count);
  return std::make_unique<PluginSession>(*plugin_, number);
}

}  // namespace simmim
