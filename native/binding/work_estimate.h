// How much work a call is, roughly and quickly, to decide whether it is worth a hand-over to another thread.
#pragma once
#include <cstdint>

namespace simmim {

/// In units of one byte read or written by an elementwise kernel (about 0.1 ns on one core); from the tensors of the call
/// in the first `count` words of the mailbox.
double work_of(int kernel, const int32_t* words, int count);

}  // namespace simmim
