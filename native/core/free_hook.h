// What must happen before an arena of this thread gives memory back to the system: work that was put off may use it.
#pragma once
#include <functional>

namespace simmim {

/// Of the JavaScript environment that this thread runs; empty on other threads.
std::function<void()>& before_free();

/// Whether arenas of this thread give nothing back now: while a program is recorded. Its calls hold the addresses of
/// blocks that were released in the meantime, and replays use them again.
bool& keeps_released();

}  // namespace simmim
