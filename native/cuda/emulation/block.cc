#include "block.h"

#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../../core/error.h"
#include "fibre.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace simmim::emulation {

Coordinates at;
unsigned char* shared_memory = nullptr;

namespace {

enum class State : uint8_t { fresh, ready, at_barrier, in_warp, ended };

struct Lane {
  State state = State::fresh;
  Fibre* fibre = nullptr;
};

/// A warp operation under way. Two buffers: a lane that is a step ahead does not disturb those that still read.
struct Meeting {
  uint32_t mask = 0, arrived = 0;
  unsigned turn = 0;
  unsigned char data[2][kWarp][kExchangeBytes];
};

struct Warp {
  std::vector<std::unique_ptr<Meeting>> meetings;  // one per mask
  size_t used = 0;
  Meeting& meeting(uint32_t mask) {
    for (size_t i = 0; i < used; i++)
      if (meetings[i]->mask == mask) return *meetings[i];
    if (used == meetings.size()) meetings.push_back(std::make_unique<Meeting>());
    Meeting& made = *meetings[used++];
    made.mask = mask;
    made.arrived = 0;
    return made;
  }
};

/// Order in which blocks and threads run: SIMMIM_EMULATION_ORDER = forward (default), reverse or shuffle. Correct kernels
/// give the same bits in every order.
class Order {
 public:
  Order() {
    const char* wish = std::getenv("SIMMIM_EMULATION_ORDER");
    const std::string name = wish ? wish : "forward";
    if (name == "reverse") kind_ = 1;
    else if (name == "shuffle") kind_ = 2;
    else if (name != "forward") fail("SIMMIM_EMULATION_ORDER is '%s', expected forward, reverse or shuffle", name.c_str());
  }
  /// Position `i` of n in this order; a shuffle is a walk with a step that has no factor in common with n.
  uint64_t operator()(uint64_t i, uint64_t n) const {
    if (kind_ == 0) return i;
    if (kind_ == 1) return n - 1 - i;
    uint64_t step = n / 2 + 7;
    while (greatest_common_divisor(step, n) != 1) step++;
    return (i * step + n / 3) % n;
  }

 private:
  static uint64_t greatest_common_divisor(uint64_t a, uint64_t b) { return b == 0 ? a : greatest_common_divisor(b, a % b); }
  int kind_ = 0;
};

/// Runs the threads of one block after the other's.
class Runner {
 public:
  void run(const char* what, dim3 threads, const std::function<void()>& kernel, const Order& order) {
    what_ = what;
    kernel_ = &kernel;
    failure_ = nullptr;
    count_ = threads.x * threads.y * threads.z;
    lanes_.assign(count_, Lane{});
    const unsigned warps = (count_ + kWarp - 1) / kWarp;
    if (warps_.size() < warps) warps_.resize(warps);
    for (Warp& warp : warps_) warp.used = 0;
    barrier_arrived_ = barrier_true_ = ended_ = 0;
    while (ended_ < count_) {
      bool moved = false;
      for (unsigned w = 0; w < warps; w++) moved |= run_warp(static_cast<unsigned>(order(w, warps)), order);
      if (failure_) std::rethrow_exception(failure_);
      if (!moved) stuck();
    }
    recycle();
  }

  /// The running thread waits until it is made ready.
  void wait(State state) {
    Lane& lane = lanes_[at.linear];
    const Coordinates mine = at;
    lane.state = state;
    lane.fibre->pause();
    at = mine;
  }

  int barrier(bool predicate) {
    barrier_true_ += predicate;
    if (++barrier_arrived_ == count_) {
      barrier_result_ = barrier_true_;
      barrier_arrived_ = barrier_true_ = 0;
      for (Lane& lane : lanes_)
        if (lane.state == State::at_barrier) lane.state = State::ready;
    } else {
      wait(State::at_barrier);
    }
    return static_cast<int>(barrier_result_);
  }

  Exchanged meet(uint32_t mask, const void* value, size_t bytes) {
    const unsigned warp = at.linear / kWarp, lane = at.linear % kWarp, present = count_ - warp * kWarp;
    if (present < kWarp) mask &= (1u << present) - 1;
    if (!(mask & 1u << lane)) fail_as("internal", "%s: lane %u takes part in a warp operation whose mask %08x leaves it out", what_, lane, mask);
    Meeting& meeting = warps_[warp].meeting(mask);
    Exchanged data = meeting.data[meeting.turn & 1];
    std::memcpy(data[lane], value, bytes);
    meeting.arrived |= 1u << lane;
    if (meeting.arrived == mask) {
      meeting.arrived = 0;
      meeting.turn++;
      for (unsigned i = 0; i < kWarp; i++)
        if (mask & 1u << i && i != lane && lanes_[warp * kWarp + i].state == State::in_warp) lanes_[warp * kWarp + i].state = State::ready;
    } else {
      wait(State::in_warp);
    }
    return data;
  }

 private:
  /// Lets each lane of a warp run until all of them are at a barrier, in a meeting that lacks somebody, or done.
  bool run_warp(unsigned warp, const Order& order) {
    const unsigned begin = warp * kWarp, size = count_ - begin < kWarp ? count_ - begin : kWarp;
    bool moved = false;
    for (bool again = true; again && !failure_;) {
      again = false;
      for (unsigned i = 0; i < size && !failure_; i++) {
        const unsigned index = begin + static_cast<unsigned>(order(i, size));
        if (lanes_[index].state != State::fresh && lanes_[index].state != State::ready) continue;
        step(index);
        again = moved = true;
      }
    }
    return moved;
  }

  void step(unsigned index) {
    Lane& lane = lanes_[index];
    at.linear = index;
    if (lane.state == State::fresh) {
      at.thread = dim3(index % at.threads.x, index / at.threads.x % at.threads.y, index / at.threads.x / at.threads.y);
      if (idle_.empty()) {
        fibres_.push_back(std::make_unique<Fibre>());
        idle_.push_back(fibres_.back().get());
      }
      lane.fibre = idle_.back();
      idle_.pop_back();
      lane.state = State::ready;
      lane.fibre->start(&Runner::body, this);
    } else {
      lane.fibre->resume();
    }
    if (!lane.fibre->ended()) return;
    lane.state = State::ended;
    idle_.push_back(lane.fibre);
    ended_++;
  }

  static void body(void* self) {
    auto* runner = static_cast<Runner*>(self);
    try {
      (*runner->kernel_)();
    } catch (...) {
      if (!runner->failure_) runner->failure_ = std::current_exception();
    }
  }

  [[noreturn]] void stuck() {
    unsigned barrier = 0, warp = 0;
    for (const Lane& lane : lanes_) {
      barrier += lane.state == State::at_barrier;
      warp += lane.state == State::in_warp;
    }
    recycle();
    fail_as("internal", "%s: %u of %u threads wait at a barrier and %u in a warp operation that the others never reach", what_, barrier, count_, warp);
  }

  /// Fibres that did not run to their end are not used again; what they hold is lost, the launch has failed anyway.
  void recycle() {
    idle_.clear();
    for (const auto& fibre : fibres_)
      if (fibre->ended()) idle_.push_back(fibre.get());
    if (idle_.size() < fibres_.size()) std::erase_if(fibres_, [](const std::unique_ptr<Fibre>& fibre) { return !fibre->ended(); });
  }

  const char* what_ = "";
  const std::function<void()>* kernel_ = nullptr;
  std::exception_ptr failure_;
  unsigned count_ = 0, ended_ = 0, barrier_arrived_ = 0, barrier_true_ = 0, barrier_result_ = 0;
  std::vector<Lane> lanes_;
  std::vector<Warp> warps_;
  std::vector<std::unique_ptr<Fibre>> fibres_;
  std::vector<Fibre*> idle_;
};

Runner runner;
std::mutex one_grid;  // workers of one process take turns

/// Shared memory between guards, full of NaN before each block.
class SharedMemory {
 public:
  explicit SharedMemory(size_t bytes) : bytes_(bytes), memory_(bytes + 2 * kGuard, kPoison) {
    shared_memory = memory_.data() + kGuard;
    poison(true);
  }
  ~SharedMemory() {
    poison(false);
    shared_memory = nullptr;
  }
  void begin_block() { std::memset(shared_memory, kPoison, bytes_); }
  void check(const char* what) const {
#if !defined(__SANITIZE_ADDRESS__)
    for (size_t i = 0; i < kGuard; i++)
      if (memory_[i] != kPoison || memory_[kGuard + bytes_ + i] != kPoison) fail_as("internal", "%s: wrote outside its %zu bytes of shared memory", what, bytes_);
#else
    (void)what;
#endif
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr unsigned char kPoison = 0xff;
  void poison([[maybe_unused]] bool on) {
#if defined(__SANITIZE_ADDRESS__)
    for (unsigned char* guard : {memory_.data(), memory_.data() + kGuard + bytes_}) {
      if (on) __asan_poison_memory_region(guard, kGuard);
      else __asan_unpoison_memory_region(guard, kGuard);
    }
#endif
  }
  size_t bytes_;
  std::vector<unsigned char> memory_;
};

}  // namespace

void fail_misaligned(const void* p, size_t bytes) { fail_as("internal", "an access of %zu bytes at address %p, which is no multiple of them", bytes, p); }
int block_barrier(bool predicate) { return runner.barrier(predicate); }
Exchanged exchange(uint32_t mask, const void* value, size_t bytes) { return runner.meet(mask, value, bytes); }

void run_grid(const char* what, dim3 blocks, dim3 threads, size_t shared, const std::function<void()>& kernel) {
  const std::lock_guard<std::mutex> lock(one_grid);
  const Order order;
  SharedMemory memory(shared);
  at.threads = threads;
  at.blocks = blocks;
  const uint64_t count = static_cast<uint64_t>(blocks.x) * blocks.y * blocks.z;
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t b = order(i, count);
    at.block = dim3(static_cast<unsigned>(b % blocks.x), static_cast<unsigned>(b / blocks.x % blocks.y), static_cast<unsigned>(b / blocks.x / blocks.y));
    memory.begin_block();
    runner.run(what, threads, kernel, order);
    memory.check(what);
  }
}

}  // namespace simmim::emulation
