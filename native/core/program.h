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

  Arena& arena() { return arena_; }
  void append(int kernel, const KernelInfo& info, const void* args);
  /// Keeps a block alive as long as the program: an external, a constant or an output.
  void keep(Block* block);
  /// Blocks of the program's arena that are neither kept nor released: tensors that outlive the recording.
  uint64_t strays() const;
  size_t size() const { return calls_.size(); }
  std::string describe() const;

  /// Runs the whole list on the calling thread. Results are those of the eager calls, bit for bit.
  void replay() const;

 private:
  struct Call {
    int kernel;
    const KernelInfo* info;
    ArgumentBytes args;
  };
  Arena& arena_;
  std::vector<Call> calls_;
  std::unordered_set<Block*> kept_;
  uint64_t kept_inside_ = 0;
};

/// How core reaches the functions of kernels/ without depending on them; set once by the binding.
extern KernelFn (*program_kernel_function)(int kernel);

}  // namespace simmim
