#include "library.h"

#include <dlfcn.h>

#include <cstdlib>

#include "../core/error.h"
#include "check.h"

namespace simmim::cuda {

Library::Library(const char* what, const char* override, std::vector<std::string> names) : what_(what) {
  if (const char* wish = std::getenv(override)) names = {wish};
  for (const std::string& name : names) {
    handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_) {
      name_ = name;
      return;
    }
    const char* said = dlerror();
    reason_ += (reason_.empty() ? "" : "; ") + (said ? std::string(said) : name);
  }
  reason_ = std::string(what) + " was not found (" + override + " names its file): " + reason_;
}

void* Library::symbol(const char* function) const {
  if (!handle_) fail_as("unsupported", "%s", reason_.c_str());
  void* found = dlsym(handle_, function);
  if (!found) fail_as("unsupported", "%s (%s) has no %s: it is of another version", what_, name_.c_str(), function);
  return found;
}

const Library& cublas_lt() {
  static const Library library("cuBLASLt", "SIMMIM_CUBLASLT", {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so", "/usr/local/cuda/lib64/libcublasLt.so"});
  return library;
}

const Library& nccl() {
  static const Library library("NCCL", "SIMMIM_NCCL", {"libnccl.so.2", "libnccl.so"});
  return library;
}

static std::string two_part(size_t version, size_t major, size_t minor) { return std::to_string(version / major) + "." + std::to_string(version % major / minor); }

std::string describe_runtime() {
  if (kEmulated) return "emulated on the host";
  int driver = 0;
  SIMMIM_CUDA_CALL(cudaDriverGetVersion(&driver));
  std::string out = "driver for CUDA " + two_part(static_cast<size_t>(driver), 1000, 10) + "; ";
  if (cublas_lt().found()) out += "cuBLASLt " + two_part(reinterpret_cast<size_t (*)()>(cublas_lt().symbol("cublasLtGetVersion"))(), 10000, 100) + " (" + cublas_lt().name() + "); ";
  else out += cublas_lt().reason() + "; ";
  int version = 0;
  if (!nccl().found()) return out + nccl().reason();
  reinterpret_cast<int (*)(int*)>(nccl().symbol("ncclGetVersion"))(&version);
  return out + "NCCL " + two_part(static_cast<size_t>(version), 10000, 100) + " (" + nccl().name() + ")";
}

}  // namespace simmim::cuda
