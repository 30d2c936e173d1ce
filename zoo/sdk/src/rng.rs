//! Random numbers that depend on what they are for, not on when they are drawn.
//!
//! A [`Stream`] is a key into Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Keys are
//! derived from the run's seed, a purpose and counters such as step and sample index. So a checkpoint needs no generator
//! state, batches may be cut anywhere, and the number of threads changes nothing.

/// A key from which numbers follow. Deriving is cheap and leaves the parent as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: u64,
}

impl Stream {
    /// The stream of a run.
    pub fn new(seed: u64) -> Self {
        Self {
            key: mix(seed ^ 0x7a6f_6f2d_7265_616c),
        }
    }

    /// The stream for one purpose or parameter name.
    pub fn named(self, purpose: &str) -> Self {
        // FNV-1a: fixed for ever, unlike the standard library's hasher.
        let hash = purpose.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self {
            key: mix(self.key.rotate_left(17) ^ hash),
        }
    }

    /// The stream of one step, epoch, image or sample.
    pub fn at(self, index: u64) -> Self {
        Self {
            key: mix(self.key.wrapping_add(mix(index ^ 0x9e37_79b9_7f4a_7c15))),
        }
    }

    /// The `block`-th four words.
    fn words(self, block: u64) -> [u32; 4] {
        philox(
            [block as u32, (block >> 32) as u32, 0, 0],
            [self.key as u32, (self.key >> 32) as u32],
        )
    }

    /// Fills `out` with U[0, 1) of 24 bits.
    pub fn fill_uniform(self, out: &mut [f32]) {
        for (block, four) in out.chunks_mut(4).enumerate() {
            for (x, word) in four.iter_mut().zip(self.words(block as u64)) {
                *x = (word >> 8) as f32 * (1.0 / 16_777_216.0);
            }
        }
    }

    /// Fills `out` with N(0, 1), by the Box-Muller transform.
    pub fn fill_normal(self, out: &mut [f32]) {
        for (block, four) in out.chunks_mut(4).enumerate() {
            let w = self.words(block as u64);
            let [a, b] = box_muller(w[0], w[1]);
            let [c, d] = box_muller(w[2], w[3]);
            for (x, value) in four.iter_mut().zip([a, b, c, d]) {
                *x = value;
            }
        }
    }

    /// `len` numbers U[0, 1).
    pub fn uniform(self, len: usize) -> Vec<f32> {
        let mut out = vec![0.0; len];
        self.fill_uniform(&mut out);
        out
    }

    /// `len` numbers N(0, 1).
    pub fn normal(self, len: usize) -> Vec<f32> {
        let mut out = vec![0.0; len];
        self.fill_normal(&mut out);
        out
    }

    /// A random order of `0..len` (Fisher-Yates).
    pub fn permutation(self, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        for i in (1..len).rev() {
            let w = self.words(i as u64);
            // The bias of a 64-bit product over at most 2^40 positions is below 2^-24.
            let j = (u128::from(u64::from(w[0]) << 32 | u64::from(w[1])) * (i as u128 + 1)) >> 64;
            order.swap(i, j as usize);
        }
        order
    }

    /// An integer in `0..below` for each of `len` places.
    pub fn integers(self, len: usize, below: u64) -> Vec<i64> {
        (0..len as u64)
            .map(|i| {
                let w = self.words(i);
                ((u128::from(u64::from(w[0]) << 32 | u64::from(w[1])) * u128::from(below)) >> 64)
                    as i64
            })
            .collect()
    }
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xd251_1f53;
        let b = u64::from(counter[2]) * 0xcd9e_8d57;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [
            key[0].wrapping_add(0x9e37_79b9),
            key[1].wrapping_add(0xbb67_ae85),
        ];
    }
    counter
}

fn box_muller(a: u32, b: u32) -> [f32; 2] {
    // u in (0, 1]: its logarithm is finite.
    let u = (f64::from(a) + 1.0) / 4_294_967_296.0;
    let angle = f64::from(b) * (std::f64::consts::TAU / 4_294_967_296.0);
    let radius = (-2.0 * u.ln()).sqrt();
    [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_published_vectors() {
        // Random123's kat_vectors, philox4x32 10.
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        let (counter, key) = (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
        );
        assert_eq!(
            philox(counter, key),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_differ_by_everything_they_are_keyed_with() {
        let base = Stream::new(1);
        let others = [
            Stream::new(2),
            base.named("a"),
            base.named("b"),
            base.at(0),
            base.at(1),
            base.named("a").at(0),
        ];
        let mut keys: Vec<_> = others.iter().map(|s| s.uniform(4).map_bits()).collect();
        keys.push(base.uniform(4).map_bits());
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 7);
    }

    trait Bits {
        fn map_bits(self) -> Vec<u32>;
    }
    impl Bits for Vec<f32> {
        fn map_bits(self) -> Vec<u32> {
            self.into_iter().map(f32::to_bits).collect()
        }
    }

    #[test]
    fn a_prefix_does_not_depend_on_the_length() {
        let stream = Stream::new(7).named("noise");
        assert_eq!(stream.normal(9)[..5], stream.normal(5)[..]);
        assert_eq!(stream.uniform(9)[..5], stream.uniform(5)[..]);
    }

    #[test]
    fn moments() {
        let n = 200_000;
        let normal = Stream::new(3).normal(n);
        let mean = normal.iter().sum::<f32>() / n as f32;
        let variance = normal.iter().map(|x| x * x).sum::<f32>() / n as f32;
        assert!(
            mean.abs() < 0.01 && (variance - 1.0).abs() < 0.01,
            "{mean} {variance}"
        );
        let uniform = Stream::new(3).uniform(n);
        assert!(uniform.iter().all(|&u| (0.0..1.0).contains(&u)));
        assert!((uniform.iter().sum::<f32>() / n as f32 - 0.5).abs() < 0.005);
    }

    #[test]
    fn permutations_hold_every_index_once() {
        let mut order = Stream::new(5).permutation(1000);
        assert_ne!(order[..5], [0, 1, 2, 3, 4]);
        order.sort_unstable();
        assert!(order.iter().enumerate().all(|(i, &x)| i == x));
    }
}
