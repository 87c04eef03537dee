// One error type across the native layer. Kernel checks call require(); binding/mailbox.cc is the only catch.
#pragma once
#include <exception>
#include <string>

namespace simmim {

/// `code` is one of ts/errors.ts's ErrorCode; `op` the kernel or function that refused.
class Error : public std::exception {
 public:
  Error(std::string code, std::string op, std::string message);
  const char* what() const noexcept override { return message_.c_str(); }
  const char* code() const noexcept { return code_.c_str(); }
  const std::string& op() const noexcept { return op_; }
  void set_op(const char* op) { if (op_.empty()) op_ = op; }

 private:
  std::string code_, op_, message_;
};

/// Throws Error{invalid_argument} with a printf-style message. The op is filled in by the caller of check().
/// Out of line, so that headers with checks stay usable in files compiled without exceptions.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] void fail_as(const char* code, const char* format, ...) __attribute__((format(printf, 2, 3)));

}  // namespace simmim

/// require(cond, "bias has %lld rows, expected %lld = ...", ...): condition first, then what was got and expected.
#define require(condition, ...) \
  do {                          \
    if (!(condition)) ::simmim::fail(__VA_ARGS__); \
  } while (0)
