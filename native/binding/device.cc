// Devices of plugins as JavaScript sees them: what a plugin offers, and opening one of its devices.
#include "../core/plugin.h"
#include "../kernels/fingerprint.h"
#include "../kernels/registry.h"
#include "environment.h"

namespace simmim {

int device_argument(Environment& environment, const Napi::Value& value) {
  if (value.IsUndefined()) return 0;
  const int number = int32_argument(value, -1);
  environment.device(number);
  return number;
}

namespace {

const PluginLibrary& plugin_argument(const Napi::Value& path) {
  if (!path.IsString()) fail("the path of the plugin is not a string");
  return PluginLibrary::open(path.As<Napi::String>().Utf8Value(), kernels_fingerprint());
}

Napi::Object to_object(Napi::Env env, const PluginDevice& device) {
  auto out = Napi::Object::New(env);
  out.Set("name", device.name);
  out.Set("memoryBytes", static_cast<double>(device.memory_bytes));
  out.Set("freeBytes", static_cast<double>(device.free_bytes));
  out.Set("computeCapability", std::to_string(device.major) + "." + std::to_string(device.minor));
  out.Set("multiprocessors", device.multiprocessors);
  out.Set("strict", device.strict != 0);
  return out;
}

/// inspectPlugin(path) -> what it is and the devices it finds
Napi::Value InspectPlugin(const Napi::CallbackInfo& info) {
  return guarded(info, "inspectPlugin", [&]() -> Napi::Value {
    const PluginLibrary& library = plugin_argument(info[0]);
    Napi::Env env = info.Env();
    auto out = Napi::Object::New(env);
    out.Set("name", library.plugin().name);
    out.Set("build", library.plugin().build);
    out.Set("score", library.plugin().score);
    auto missing = Napi::Array::New(env);
    uint32_t n = 0;
    for (int i = 0; i < kernel_count(); i++)
      if (!library.plugin().has(i)) missing.Set(n++, kernel_at(i).name);
    out.Set("hostOnlyKernels", missing);
    const std::vector<PluginDevice> devices = library.devices();
    auto list = Napi::Array::New(env, devices.size());
    for (size_t i = 0; i < devices.size(); i++) list.Set(static_cast<uint32_t>(i), to_object(env, devices[i]));
    out.Set("devices", list);
    out.Set("runtime", library.describe());
    return out;
  });
}

/// openDevice(path, number) -> the number of the device in this environment, the same one for the same device
Napi::Value OpenDevice(const Napi::CallbackInfo& info) {
  return guarded(info, "openDevice", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    const PluginLibrary& library = plugin_argument(info[0]);
    const int number = int32_argument(info[1], -1);
    const std::string name = std::string(library.plugin().name) + ":" + std::to_string(number);
    for (size_t i = 0; i < e.attached.size(); i++)
      if (e.attached[i]->device->name() == name) return Napi::Number::New(info.Env(), static_cast<double>(i + 1));
    e.attached.push_back(std::make_unique<Attached>(library.open_device(number)));
    return Napi::Number::New(info.Env(), e.storages.add_device(e.attached.back()->arena));
  });
}

/// synchronise(device)
Napi::Value Synchronise(const Napi::CallbackInfo& info) {
  return guarded(info, "synchronise", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.device(device_argument(e, info[0])).synchronise();
    return info.Env().Undefined();
  });
}

}  // namespace

void export_device(Napi::Env env, Napi::Object exports) {
  exports.Set("inspectPlugin", Napi::Function::New<InspectPlugin>(env, "inspectPlugin"));
  exports.Set("openDevice", Napi::Function::New<OpenDevice>(env, "openDevice"));
  exports.Set("synchronise", Napi::Function::New<Synchronise>(env, "synchronise"));
}

}  // namespace simmim
