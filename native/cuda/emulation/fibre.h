// A stack that code runs on until it pauses: what each thread of an emulated block is.
#pragma once
#include <cstddef>

namespace simmim::emulation {

class Fibre {
 public:
  Fibre();
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;
  ~Fibre();

  /// Starts `entry(argument)` on this stack, and returns when it pauses or ends.
  void start(void (*entry)(void*), void* argument);
  /// Goes on behind the pause, and returns at the next one or at the end.
  void resume();
  /// From inside: back to whoever started or resumed it.
  void pause();
  bool ended() const { return ended_; }

 private:
  static void begin(Fibre* fibre);
  void enter();
  void leave(bool for_good);
  char* stack_;
  void* own_ = nullptr;     // stack pointer while paused
  void* caller_ = nullptr;  // stack pointer of whoever runs it
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  bool ended_ = true;
  void* fake_stack_ = nullptr;  // of AddressSanitizer
  const void* caller_stack_ = nullptr;
  size_t caller_size_ = 0;
};

}  // namespace simmim::emulation
