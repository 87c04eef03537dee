#include "program.h"

#include <cstring>

namespace simmim {

KernelFn (*program_kernel_function)(int kernel) = nullptr;

Program::~Program() {
  for (Block* block : kept_) StorageTable::drop(block);
}

void Program::append(int kernel, const KernelInfo& info, const void* args) {
  auto* copy = new (std::align_val_t{64}) char[info.size];
  std::memcpy(copy, args, info.size);
  calls_.push_back({kernel, &info, ArgumentBytes(copy)});
}

void Program::keep(Block* block) {
  if (!kept_.insert(block).second) return;
  StorageTable::retain(block);
  if (StorageTable::arena_of(block) == &arena_) kept_inside_++;
}

uint64_t Program::strays() const { return arena_.stats().live_blocks - kept_inside_; }

std::string Program::describe() const {
  std::string out;
  for (const Call& call : calls_) out += call.info->describe(call.args.get()) + "\n";
  return out;
}

void Program::replay() const {
  for (const Call& call : calls_) program_kernel_function(call.kernel)(call.args.get());
}

}  // namespace simmim
