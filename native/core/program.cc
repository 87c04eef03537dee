#include "program.h"

#include <cstring>

#include "arena.h"

namespace simmim {

Program::~Program() {
  for (Block* block : kept_) StorageTable::drop(block);
}

void Program::append(int kernel, const KernelInfo& info, const void* args) {
  auto* copy = new (std::align_val_t{64}) char[info.size];
  std::memcpy(copy, args, info.size);
  arguments_.emplace_back(copy);
  infos_.push_back(&info);
  calls_.push_back({kernel, copy});
}

void Program::keep(Block* block) {
  if (!kept_.insert(block).second) return;
  StorageTable::retain(block);
  if (StorageTable::arena_of(block) == &arena_) kept_inside_++;
}

uint64_t Program::strays() const { return arena_.stats().live_blocks - kept_inside_; }

std::string Program::describe() const {
  std::string out;
  for (size_t i = 0; i < calls_.size(); i++) out += infos_[i]->describe(calls_[i].args) + "\n";
  return out;
}

void Program::finish() { prepared_ = arena_.device().prepare(calls_); }

void Program::replay() const {
  if (prepared_) return prepared_->enqueue();
  Device& device = arena_.device();
  for (const KernelCall& call : calls_) device.run(call);
}

}  // namespace simmim
