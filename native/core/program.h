// A recorded list of kernel calls with fixed addresses, and the recording of one.
//
// While recording, every call is executed and its decoded arguments are appended; storages come from the
// program's own arena, so tensors that tidy frees are reused in the same order at every replay: the
// recording is the memory plan. Storages from outside (parameters, staging buffers) are retained.
#pragma once
#include <memory>
#include <new>
#include <string>
#include <unordered_set>
#include <vector>

#include "device.h"
#include "kernel.h"

namespace simmim {

struct FreeArguments {
  void operator()(char* bytes) const { ::operator delete[](bytes, std::align_val_t{64}); }
};
using ArgumentBytes = std::unique_ptr<char[], FreeArguments>;

class Program {
 public:
  /// The arena outlives the program: tensors of its outputs may be disposed of later.
  explicit Program(Arena& arena) : arena_(arena) {}
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program();

  Arena& arena() const { return arena_; }
  void append(int kernel, const KernelInfo& info, const void* args);
  /// Keeps a block alive as long as the program: an external, a constant or an output.
  void keep(Block* block);
  /// Blocks of the program's arena that are neither kept nor released: tensors that outlive the recording.
  uint64_t strays() const;
  size_t size() const { return calls_.size(); }
  std::string describe() const;

  /// The recording is complete: a device with something better than a list of calls makes it now.
  void finish();
  /// Runs the whole list: on the calling thread, or behind whatever its device was asked for before. Results are those
  /// of the eager calls, bit for bit.
  void replay() const;

 private:
  Arena& arena_;
  std::vector<KernelCall> calls_;
  std::vector<const KernelInfo*> infos_;    // of the calls, in order
  std::vector<ArgumentBytes> arguments_;
  std::unique_ptr<Replayable> prepared_;    // null where the list is replayed
  std::unordered_set<Block*> kept_;
  uint64_t kept_inside_ = 0;
};

}  // namespace simmim
