// Preloaded into a program whose libraries ask the processor by `ud2` instead of `cpuid` (see
// hold_to_avx2.py): answers as the processor would, without AVX-512 and AMX.

#define _GNU_SOURCE  // the registers' names
#include <cpuid.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

// Feature bits of leaf 7, by Intel's manual, volume 2, CPUID.
static const unsigned kEbx =
    1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31;
static const unsigned kEcx = 1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14;
static const unsigned kEdx =
    1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25;
static const unsigned kEaxOfSubleaf1 = 1u << 5;

static void answer(int signal_number, siginfo_t* info, void* context) {
  (void)info;
  greg_t* const r = ((ucontext_t*)context)->uc_mcontext.gregs;
  const uint8_t* const at = (const uint8_t*)r[REG_RIP];
  if (at[0] != 0x0f || at[1] != 0x0b) {
    signal(signal_number, SIG_DFL);  // another instruction: fails again, for good
    return;
  }
  const unsigned leaf = (unsigned)r[REG_RAX], subleaf = (unsigned)r[REG_RCX];
  unsigned a, b, c, d;
  __cpuid_count(leaf, subleaf, a, b, c, d);
  if (leaf == 7 && subleaf == 0) {
    b &= ~kEbx;
    c &= ~kEcx;
    d &= ~kEdx;
  } else if (leaf == 7 && subleaf == 1) {
    a &= ~kEaxOfSubleaf1;
  }
  r[REG_RAX] = a;
  r[REG_RBX] = b;
  r[REG_RCX] = c;
  r[REG_RDX] = d;
  r[REG_RIP] += 2;
}

__attribute__((constructor)) static void listen_for_questions(void) {
  struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGILL, &action, NULL);
}
