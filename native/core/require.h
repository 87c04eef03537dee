// Checks of arguments. Without the standard library, so that kernels, each compiled for several levels, need not read it.
#pragma once

namespace simmim {

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
