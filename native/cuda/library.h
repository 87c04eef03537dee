// Shared libraries that are opened by name when they are first needed, so that the plugin loads without them.
#pragma once
#include <string>
#include <vector>

namespace simmim::cuda {

class Library {
 public:
  /// The first of `names` that opens; the environment variable `override`, when set, names the file instead.
  Library(const char* what, const char* override, std::vector<std::string> names);

  bool found() const { return handle_ != nullptr; }
  /// One sentence: which names were tried and what the system said.
  const std::string& reason() const { return reason_; }
  const std::string& name() const { return name_; }
  /// Throws Error{unsupported} when the library is missing or has no such function.
  void* symbol(const char* function) const;
  template <class F>
  void bind(F*& pointer, const char* function) const {
    pointer = reinterpret_cast<F*>(symbol(function));
  }

 private:
  const char* what_;
  void* handle_ = nullptr;
  std::string name_, reason_;
};

/// Matrix products: SIMMIM_CUBLASLT names another file.
const Library& cublas_lt();
/// Communication between devices: SIMMIM_NCCL names another file.
const Library& nccl();

/// Versions of driver, cuBLASLt and NCCL as found on this machine, or why one is missing.
std::string describe_runtime();

}  // namespace simmim::cuda
