// Vectors of a target and their partial ends. Included once per target by the kernel files.
#if defined(SEPCONV_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPCONV_VECTORS_INL_H_
#undef SEPCONV_VECTORS_INL_H_
#else
#define SEPCONV_VECTORS_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sepconv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// NaN passes through: x86's min and max return the second operand if either is NaN, NEON's plain
// ones return NaN; those that Highway takes there, and its scalar ones, would return the number.
HWY_INLINE V clamp(V x, V lo, V hi) {
#if HWY_TARGET == HWY_NEON
  return V(vminq_f32(hi.raw, vmaxq_f32(lo.raw, x.raw)));
#elif HWY_TARGET == HWY_SCALAR
  return hn::IfThenElse(hn::Lt(x, lo), lo, hn::IfThenElse(hn::Lt(hi, x), hi, x));
#else
  return hn::Min(hi, hn::Max(lo, x));
#endif
}

HWY_INLINE V keep_nan(V x, V result) { return hn::IfThenElse(hn::IsNaN(x), x, result); }

// The larger of two, NaN if either is.
HWY_INLINE V larger(V a, V b) { return hn::IfThenElse(hn::Or(hn::Gt(b, a), hn::IsNaN(b)), b, a); }

// GCC would rather load a weight again for each row than keep it: loads are the limit.
HWY_INLINE V in_register(V v) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && !HWY_COMPILER_CLANG
  asm("" : "+v"(v.raw));
#endif
  return v;
}

// The same for a pointer: what is loaded from it is not what was loaded before.
template <class T>
HWY_INLINE T* in_register(T* p) {
  asm("" : "+r"(p));
  return p;
}

// *p in every lane. As an integer: to broadcast a float from memory into 512 bits, Zen 4 takes one
// of the units that multiply or one beside it.
HWY_INLINE V broadcast(const float* p) {
  int32_t bits;
  hwy::CopyBytes<sizeof(bits)>(p, &bits);
  return hn::BitCast(D(), hn::Set(hn::RebindToSigned<D>(), bits));
}

// b + *a and c + *a · b. AVX-512's arithmetic broadcasts by itself, which takes no unit's
// time; GCC would rather broadcast once for several vectors, into a register that is not there.
#if HWY_TARGET == HWY_AVX3
HWY_INLINE V add_broadcast(V b, const float* a) {
  V sum;
  asm("vaddps %2%{1to16%}, %1, %0" : "=v"(sum.raw) : "v"(b.raw), "m"(*a));
  return sum;
}
HWY_INLINE V mul_add_broadcast(const float* a, V b, V c) {
  asm("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(c.raw) : "v"(b.raw), "m"(*a));
  return c;
}
#else
HWY_INLINE V add_broadcast(V b, const float* a) { return hn::Add(b, broadcast(a)); }
HWY_INLINE V mul_add_broadcast(const float* a, V b, V c) { return hn::MulAdd(broadcast(a), b, c); }
#endif

// The first `n` of a vector's lanes, the others zero, touching no other memory. Below AVX2, and on
// NEON, Highway's masked loads and stores access the whole vector, so these go lane by lane there.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
HWY_INLINE V load_first(D d, size_t n, const float* p) {
  return hn::MaskedLoad(hn::FirstN(d, n), d, p);
}

HWY_INLINE void store_first(D d, V v, size_t n, float* p) {
  hn::BlendedStore(v, hn::FirstN(d, n), d, p);
}
#else
HWY_INLINE V load_first(D d, size_t n, const float* p) {
  HWY_ALIGN float lanes[hn::MaxLanes(D())] = {};
  for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
  return hn::Load(d, lanes);
}

HWY_INLINE void store_first(D d, V v, size_t n, float* p) {
  HWY_ALIGN float lanes[hn::MaxLanes(D())];
  hn::Store(v, d, lanes);
  for (size_t i = 0; i < n; ++i) p[i] = lanes[i];
}
#endif

// A vector at p, or, with kPartial, its first n lanes alone.
template <bool kPartial>
HWY_INLINE V load_lanes(const float* p, size_t n) {
  return kPartial ? load_first(D(), n, p) : hn::LoadU(D(), p);
}

template <bool kPartial>
HWY_INLINE void store_lanes(V v, size_t n, float* p) {
  if (kPartial) {
    store_first(D(), v, n, p);
  } else {
    hn::StoreU(v, D(), p);
  }
}

// The first n lanes, whole vectors without a mask.
HWY_INLINE V load_some(const float* p, size_t n) {
  return n == hn::Lanes(D()) ? hn::LoadU(D(), p) : load_first(D(), n, p);
}

HWY_INLINE void store_some(V v, size_t n, float* p) {
  if (n == hn::Lanes(D())) {
    hn::StoreU(v, D(), p);
  } else {
    store_first(D(), v, n, p);
  }
}

// Calls f(i, lanes in use) for every vector of n elements.
template <class F>
HWY_INLINE void for_vectors(size_t n, const F& f) {
  const size_t lanes = hn::Lanes(D());
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) f(i, lanes);
  if (i < n) f(i, n - i);
}

}  // namespace HWY_NAMESPACE
}  // namespace sepconv
HWY_AFTER_NAMESPACE();

#endif
