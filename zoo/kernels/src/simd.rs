//! Run-time choice of the instruction set, and the vectors that the convolution tiles use.

/// An instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Simd {
    /// 512-bit vectors.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// What the target guarantees (SSE2 on x86-64, NEON on aarch64).
    Portable,
}

impl Simd {
    /// The best set that this CPU has.
    pub fn detect() -> Simd {
        #[cfg(target_arch = "x86_64")]
        {
            // The standard library caches these.
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("fma")
            {
                return Simd::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Simd::Avx2;
            }
        }
        Simd::Portable
    }

    /// Every set that this CPU can run, the best first.
    pub fn available() -> Vec<Simd> {
        match Simd::detect() {
            Simd::Avx512 => vec![Simd::Avx512, Simd::Avx2, Simd::Portable],
            Simd::Avx2 => vec![Simd::Avx2, Simd::Portable],
            Simd::Portable => vec![Simd::Portable],
        }
    }

    /// Floats in one vector.
    pub(crate) fn width(self) -> usize {
        match self {
            Simd::Avx512 => 16,
            Simd::Avx2 => 8,
            Simd::Portable => 4,
        }
    }
}

/// Compiles one loop for every instruction set and calls the right one.
///
/// `simd_fn! { pub fn name(args) -> T { body } }` defines `name(simd, args)`. Calls in the body must be
/// `#[inline(always)]`. Bodies keep to separate multiplications and additions, so that all sets give
/// the same bits.
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(simd: $crate::Simd, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
            match simd {
                // SAFETY: `Simd` values come from `detect` or `available`, which checked the features.
                #[cfg(target_arch = "x86_64")]
                $crate::Simd::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::Simd::Avx2 => unsafe { avx2($($arg),*) },
                _ => body($($arg),*),
            }
        }
    };
}
pub(crate) use simd_fn;

/// A vector of floats. All methods are inlined into functions compiled for its instruction set.
pub(crate) trait Lane: Copy {
    /// Floats in the vector.
    const WIDTH: usize;
    /// All lanes `value`.
    ///
    /// # Safety
    /// The CPU has the instruction set.
    unsafe fn splat(value: f32) -> Self;
    /// Loads `WIDTH` floats, of any alignment.
    ///
    /// # Safety
    /// The CPU has the instruction set, and `from` is valid for reading `WIDTH` floats.
    unsafe fn load(from: *const f32) -> Self;
    /// Stores `WIDTH` floats.
    ///
    /// # Safety
    /// The CPU has the instruction set, and `to` is valid for writing `WIDTH` floats.
    unsafe fn store(self, to: *mut f32);
    /// `self + a * b`.
    ///
    /// # Safety
    /// The CPU has the instruction set.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
}

/// Four floats in whatever the target has.
#[derive(Clone, Copy)]
pub(crate) struct Quad([f32; 4]);

impl Lane for Quad {
    const WIDTH: usize = 4;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Quad([value; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for four floats; an array of f32 has the alignment of f32.
        Quad(unsafe { *from.cast::<[f32; 4]>() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as in `load`.
        unsafe { *to.cast::<[f32; 4]>() = self.0 }
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Quad(std::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lane;
    use std::arch::x86_64::*;

    impl Lane for __m512 {
        const WIDTH: usize = 16;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller vouches for the instruction set and the memory.
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller vouches for the instruction set and the memory.
            unsafe { _mm512_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }
    }

    impl Lane for __m256 {
        const WIDTH: usize = 8;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm256_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller vouches for the instruction set and the memory.
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller vouches for the instruction set and the memory.
            unsafe { _mm256_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { _mm256_fmadd_ps(a, b, self) }
        }
    }
}
