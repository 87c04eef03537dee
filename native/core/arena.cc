#include "arena.h"

#include "error.h"
#include "free_hook.h"

namespace simmim {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kSlack = size_t{64} << 20;

/// 64-byte steps up to 1 KiB, then eight classes per doubling.
size_t class_of(size_t bytes) {
  if (bytes <= 1024) return bytes == 0 ? kAlign : (bytes + kAlign - 1) / kAlign * kAlign;
  size_t step = kAlign;
  while (step * 16 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

}  // namespace

std::function<void()>& before_free() {
  static thread_local std::function<void()> hook;
  return hook;
}

bool& keeps_released() {
  static thread_local bool keeps = false;
  return keeps;
}

Arena::~Arena() { trim(); }

size_t Arena::size_of_block(size_t bytes) const { return device_.strict() ? bytes : class_of(bytes); }

void* Arena::allocate(size_t bytes) {
  if (fail_countdown_ > 0 && --fail_countdown_ == 0) fail_as("out_of_memory", "allocation of %zu bytes failed (test hook)", bytes);
  const size_t size = size_of_block(bytes);
  void* data = nullptr;
  // A cached block up to 1/8 too large serves as well; it keeps its own class.
  auto it = free_.find(size);
  if (it != free_.end() && !it->second.empty()) {
    data = it->second.back();
    it->second.pop_back();
    stats_.cached -= size;
  } else {
    if (!keeps_released()) make_room(size);
    data = device_.allocate(size);
    if (!data && !keeps_released()) {
      trim();
      data = device_.allocate(size);
    }
    if (!data) fail_as("out_of_memory", "no %zu bytes are left on %s (%zu bytes are live)", bytes, device_.name().c_str(), stats_.live);
    stats_.system_allocations++;
  }
  if (device_.strict()) device_.poison(data, size);
  stats_.live += size;
  stats_.live_blocks++;
  if (stats_.live > stats_.peak) stats_.peak = stats_.live;
  return data;
}

void Arena::release(void* data, size_t bytes) {
  const size_t size = size_of_block(bytes);
  stats_.live -= size;
  stats_.live_blocks--;
  free_[size].push_back(data);
  stats_.cached += size;
}

/// Before asking the system for more: give back cached blocks, largest first, while live + cached would
/// exceed what the program has needed at its peak by more than an eighth and some slack.
void Arena::make_room(size_t need) {
  const size_t limit = stats_.peak + stats_.peak / 8 + kSlack;
  for (auto it = free_.rbegin(); it != free_.rend() && stats_.live + stats_.cached + need > limit; ++it)
    while (!it->second.empty() && stats_.live + stats_.cached + need > limit) {
      if (before_free()) before_free()();
      device_.release(it->second.back(), it->first);
      it->second.pop_back();
      stats_.cached -= it->first;
    }
}

void Arena::trim() {
  if (before_free()) before_free()();
  for (auto& [size, blocks] : free_) {
    for (void* block : blocks) device_.release(block, size);
    stats_.cached -= size * blocks.size();
  }
  free_.clear();
}

}  // namespace simmim
