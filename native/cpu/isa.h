// Instruction-set levels. Every kernels/*.cpu.cc and cpu/*.isa.cc is compiled once per level into
// namespace simmim::SIMMIM_ISA (baseline, avx2, avx512); the level is picked once at load.
#pragma once

namespace simmim {

enum class Isa : int { baseline = 0, avx2 = 1, avx512 = 2 };
constexpr int kIsaLevels = 3;
const char* name_of(Isa isa);

/// The highest level that both this machine and this build (SIMMIM_LEVELS of CMakeLists.txt) have.
Isa detect_isa();
bool isa_available(Isa isa);
/// The level in force: detect_isa(), or SIMMIM_ISA=baseline|avx2|avx512 at load. Throws Error for a bad name.
Isa current_isa();
void set_isa(Isa isa);
/// True when the CPU multiplies bf16 pairs natively (avx512_bf16) and SIMMIM_BF16=emulate is not set.
bool has_bf16_dot();

}  // namespace simmim
