//! numpy's `default_rng(seed).permutation(n)`, bit for bit: the order in which R2E-Gym's index windows count.
