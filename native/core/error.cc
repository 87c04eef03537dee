#include "error.h"

#include <cstdarg>
#include <cstdio>

namespace simmim {

Error::Error(std::string code, std::string op, std::string message) : code_(std::move(code)), op_(std::move(op)), message_(std::move(message)) {}

static std::string format_args(const char* format, va_list args) {
  char text[1024];
  vsnprintf(text, sizeof text, format, args);
  return text;
}

void fail(const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::string text = format_args(format, args);
  va_end(args);
  throw Error("invalid_argument", "", std::move(text));
}

void fail_as(const char* code, const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::string text = format_args(format, args);
  va_end(args);
  throw Error(code, "", std::move(text));
}

}  // namespace simmim
