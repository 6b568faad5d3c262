//! The permutation that R2E-Gym shuffles its datasets with, so that "the first 2,000 tasks" are the same ones.
//!
//! `datasets.Dataset.shuffle(seed)` is numpy's `default_rng(seed).permutation(n)`: a `SeedSequence` seeds a PCG64
//! generator, which drives a Fisher-Yates shuffle with rejection sampling. Each step is numpy's (2.4), bit for
//! bit; numpy promises to keep the streams of `SeedSequence` and `PCG64`.

/// Computes numpy's `default_rng(seed).permutation(n)`: position to row number.
pub fn numpy_permutation(seed: u64, n: u64) -> Vec<u64> {
    let mut generator = Pcg64::seeded(seed);
    let mut rows: Vec<u64> = (0..n).collect();
    for last in (1..rows.len()).rev() {
        rows.swap(last, generator.up_to(last as u64) as usize);
    }
    rows
}

/// PCG XSL RR 128/64 (M. E. O'Neill, 2014).
struct Pcg64 {
    state: u128,
    increment: u128,
    /// The upper half of a 64-bit output whose lower half was used.
    upper_half: Option<u32>,
}

const PCG_MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

impl Pcg64 {
    fn seeded(seed: u64) -> Self {
        let words = seed_sequence(seed);
        let wide = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
        let increment = wide(words[2], words[3]) << 1 | 1;
        let mut generator = Self { state: 0, increment, upper_half: None };
        generator.step();
        generator.state = generator.state.wrapping_add(wide(words[0], words[1]));
        generator.step();
        generator
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(PCG_MULTIPLIER).wrapping_add(self.increment);
    }

    fn next_u64(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    fn next_u32(&mut self) -> u32 {
        self.upper_half.take().unwrap_or_else(|| {
            let both = self.next_u64();
            self.upper_half = Some((both >> 32) as u32);
            both as u32
        })
    }

    /// A number from 0 to `max`, by masking and rejecting (numpy's `random_interval`).
    fn up_to(&mut self, max: u64) -> u64 {
        let mask = u64::MAX >> max.leading_zeros();
        loop {
            let narrow = max <= u64::from(u32::MAX);
            let value = mask & if narrow { self.next_u32().into() } else { self.next_u64() };
            if value <= max {
                return value;
            }
        }
    }
}

/// Words in the entropy pool.
const POOL: usize = 4;

/// Spreads the seed over four words: numpy's `SeedSequence(seed).generate_state(4, uint64)`.
fn seed_sequence(seed: u64) -> [u64; POOL] {
    let pool = entropy_pool(seed);
    let mut hash = Hash { constant: 0x8b51_f9dd, multiplier: 0x58f3_8ded };
    let mut halves = (0..2 * POOL).map(|at| hash.mix_in(pool[at % POOL]));
    std::array::from_fn(|_| {
        let low = halves.next().expect("two halves per word");
        let high = halves.next().expect("two halves per word");
        u64::from(high) << 32 | u64::from(low)
    })
}

fn entropy_pool(seed: u64) -> [u32; POOL] {
    let mut hash = Hash { constant: 0x43b0_d7e5, multiplier: 0x931e_8875 };
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(|word| hash.mix_in(word));
    for source in 0..POOL {
        for target in (0..POOL).filter(|&target| target != source) {
            pool[target] = combine(pool[target], hash.mix_in(pool[source]));
        }
    }
    pool
}

fn combine(one: u32, other: u32) -> u32 {
    let mixed = one.wrapping_mul(0xca01_f9dd).wrapping_sub(other.wrapping_mul(0x4973_f715));
    mixed ^ mixed >> 16
}

/// A hash whose constant changes with every word.
struct Hash {
    constant: u32,
    multiplier: u32,
}

impl Hash {
    fn mix_in(&mut self, word: u32) -> u32 {
        let word = word ^ self.constant;
        self.constant = self.constant.wrapping_mul(self.multiplier);
        let word = word.wrapping_mul(self.constant);
        word ^ word >> 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Sha256Hex;

    /// Seed, n, first six, last three, and the hash of the whole in decimal with commas.
    type Golden = (u64, u64, &'static [u64], &'static [u64], &'static str);

    /// From numpy 2.4.6.
    const GOLDEN: &[Golden] = &[
        (0, 0, &[], &[], "e3b0c44298fc1c14"),
        (0, 1, &[0], &[0], "5feceb66ffc86f38"),
        (0, 2, &[0, 1], &[0, 1], "83b97b859aa5f81b"),
        (0, 10, &[4, 6, 2, 7, 3, 5], &[0, 8, 1], "839ad488bab1e57b"),
        (0, 4578, &[3470, 3538, 3987, 1815, 1556, 4505], &[2232, 3023, 607], "00bab623769e8a29"),
        (0, 8101, &[4389, 470, 356, 765, 3088, 5328], &[5921, 3023, 607], "a08770674809f392"),
        (0, 70000, &[38636, 44088, 42448, 60646, 15499, 31316], &[61469, 48632, 33375], "2e906611af4a73c9"),
        (1, 0, &[], &[], "e3b0c44298fc1c14"),
        (1, 1, &[0], &[0], "5feceb66ffc86f38"),
        (1, 2, &[0, 1], &[0, 1], "83b97b859aa5f81b"),
        (1, 10, &[8, 4, 7, 0, 1, 2], &[9, 6, 3], "82b40b950cc50a95"),
        (1, 4578, &[3706, 168, 340, 5, 4519, 1727], &[1270, 2150, 1279], "5ad8a2321b1ede6d"),
        (1, 8101, &[7238, 680, 68, 7436, 1709, 415], &[2150, 7667, 1279], "368716017a00ced8"),
        (1, 70000, &[52394, 32277, 13936, 13006, 24026, 18716], &[43110, 48627, 58623], "5c3a58657f14752a"),
        (42, 0, &[], &[], "e3b0c44298fc1c14"),
        (42, 1, &[0], &[0], "5feceb66ffc86f38"),
        (42, 2, &[1, 0], &[1, 0], "b0e4f9bb7b55e4b1"),
        (42, 10, &[5, 6, 0, 7, 3, 2], &[9, 1, 8], "d062502e6d438b03"),
        (42, 4578, &[2120, 1455, 792, 3268, 2796, 3317], &[491, 2189, 1672], "1e1ddd6cdd6a226e"),
        (42, 8101, &[5840, 3131, 7068, 5106, 1135, 5390], &[5729, 7117, 1672], "d1de224eb5524fc5"),
        (42, 70000, &[68143, 31172, 6037, 29920, 45886, 65638], &[34957, 5668, 22113], "1cd607cfe5a8b555"),
        (1099511627776, 0, &[], &[], "e3b0c44298fc1c14"),
        (1099511627776, 1, &[0], &[0], "5feceb66ffc86f38"),
        (1099511627776, 2, &[0, 1], &[0, 1], "83b97b859aa5f81b"),
        (1099511627776, 10, &[3, 8, 9, 0, 7, 4], &[2, 5, 1], "83847d0dd684f5b1"),
        (1099511627776, 4578, &[3796, 2872, 202, 2317, 2367, 3965], &[113, 1061, 3457], "1c81261331027119"),
        (1099511627776, 8101, &[7026, 3911, 4349, 2315, 2216, 3094], &[5090, 1061, 3457], "5455077bca1f79d4"),
        (
            1099511627776,
            70000,
            &[14955, 60036, 46452, 46110, 64387, 35561],
            &[23126, 1061, 3457],
            "75558d7917b96f71",
        ),
        (18446744073709551615, 0, &[], &[], "e3b0c44298fc1c14"),
        (18446744073709551615, 1, &[0], &[0], "5feceb66ffc86f38"),
        (18446744073709551615, 2, &[0, 1], &[0, 1], "83b97b859aa5f81b"),
        (18446744073709551615, 10, &[8, 7, 3, 0, 4, 6], &[2, 5, 9], "d4508f3633c4aacc"),
        (
            18446744073709551615,
            4578,
            &[2288, 1799, 1737, 2485, 3511, 236],
            &[3505, 2841, 857],
            "0bc2ba3e08fd6af1",
        ),
        (
            18446744073709551615,
            8101,
            &[6764, 1407, 1472, 6669, 4469, 572],
            &[857, 6778, 5775],
            "ef9290ceed3ba63f",
        ),
        (
            18446744073709551615,
            70000,
            &[59515, 4571, 67051, 2860, 51180, 63726],
            &[23029, 9049, 14970],
            "c1ab7e7919520740",
        ),
    ];

    #[test]
    fn permutations_are_numpys() {
        for (seed, n, first, last, sha256) in GOLDEN {
            let rows = numpy_permutation(*seed, *n);
            let text = rows.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
            assert!(rows.starts_with(first) && rows.ends_with(last), "seed {seed}, n {n}: {rows:?}");
            assert!(Sha256Hex::of(text.as_bytes()).as_str().starts_with(sha256), "seed {seed}, n {n}");
        }
    }
}
