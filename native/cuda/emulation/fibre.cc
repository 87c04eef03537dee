#include "fibre.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

// simmim_switch_stack(save, load): pushes what a function must preserve, stores the stack pointer in *save, takes
// `load` as stack pointer and pops the same from there.
#if defined(__x86_64__)
__asm__(
    ".text\n.type simmim_switch_stack,@function\nsimmim_switch_stack:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n"
    ".size simmim_switch_stack,.-simmim_switch_stack\n");
#elif defined(__aarch64__)
__asm__(
    ".text\n.type simmim_switch_stack,%function\nsimmim_switch_stack:\n"
    "  sub sp, sp, #160\n"
    "  stp x19, x20, [sp]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n  stp x25, x26, [sp, #48]\n"
    "  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
    "  ldp x19, x20, [sp]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n  ldp x25, x26, [sp, #48]\n"
    "  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
    "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "  add sp, sp, #160\n  ret\n"
    ".size simmim_switch_stack,.-simmim_switch_stack\n");
#else
#error "the emulation switches stacks on x86-64 and arm64 only"
#endif
extern "C" void simmim_switch_stack(void** save, void* load);

namespace simmim::emulation {
namespace {
constexpr size_t kStack = size_t{256} << 10, kGuard = 4096;
thread_local Fibre* starting = nullptr;
}  // namespace

Fibre::Fibre() {
  void* memory = mmap(nullptr, kStack + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuard, PROT_NONE);
  stack_ = static_cast<char*>(memory);
}

Fibre::~Fibre() { munmap(stack_, kStack + kGuard); }

/// First function on the stack; it must not return.
void Fibre::begin(Fibre* fibre) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &fibre->caller_stack_, &fibre->caller_size_);
#endif
  fibre->entry_(fibre->argument_);
  fibre->ended_ = true;
  fibre->leave(true);
}

void Fibre::start(void (*entry)(void*), void* argument) {
  entry_ = entry;
  argument_ = argument;
  ended_ = false;
  auto* top = reinterpret_cast<uintptr_t*>(stack_ + kGuard + kStack);
#if defined(__x86_64__)
  *--top = 0;  // the stack is misaligned by one word at a function's entry, as after a call
  *--top = reinterpret_cast<uintptr_t>(+[] { begin(starting); });
  top -= 6;
#else
  top -= 20;
  top[11] = reinterpret_cast<uintptr_t>(+[] { begin(starting); });
#endif
  own_ = top;
  starting = this;
  enter();
}

void Fibre::resume() { enter(); }

void Fibre::pause() { leave(false); }

void Fibre::enter() {
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, stack_ + kGuard, kStack);
  simmim_switch_stack(&caller_, own_);
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
  simmim_switch_stack(&caller_, own_);
#endif
}

void Fibre::leave([[maybe_unused]] bool for_good) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_stack_, caller_stack_, caller_size_);
  simmim_switch_stack(&own_, caller_);
  __sanitizer_finish_switch_fiber(fake_stack_, &caller_stack_, &caller_size_);
#else
  simmim_switch_stack(&own_, caller_);
#endif
}

}  // namespace simmim::emulation
