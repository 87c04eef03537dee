// One error type across the native layer. Kernel checks call require(); binding/mailbox.cc is the only catch.
#pragma once
#include <exception>
#include <string>

#include "require.h"

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

}  // namespace simmim
