#pragma once

namespace simmim {

/// How many threads a parallel_for started here can have: 1 inside another one. Defined in thread_pool.cc.
int usable_threads();

}  // namespace simmim
