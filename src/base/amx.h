#pragma once

namespace sepconv {

/// Whether this library was compiled with the kernels that use AMX.
#if defined(__x86_64__) && defined(__linux__)
inline constexpr bool kAmxBuilt = true;
#else
inline constexpr bool kAmxBuilt = false;
#endif

/// Whether the processor has AMX with bf16 products and the operating system lets this process use
/// it, which has to be asked for once.
bool request_amx();

}  // namespace sepconv
