//! Statistics of a run: rates with their uncertainty.

/// The Wilson score interval of a proportion at 95 %: `(low, high)`. Nothing is known of an empty sample: `(0, 1)`.
///
/// E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
pub fn wilson_interval(successes: u64, trials: u64) -> (f64, f64) {
    if trials == 0 {
        return (0.0, 1.0);
    }
    const Z: f64 = 1.959_963_984_540_054;
    let n = trials as f64;
    let p = successes as f64 / n;
    let denominator = 1.0 + Z * Z / n;
    let centre = (p + Z * Z / (2.0 * n)) / denominator;
    let margin = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / denominator;
    ((centre - margin).max(0.0), (centre + margin).min(1.0))
}

/// The unbiased pass@k of one task with `n` graded samples of which `c` succeeded; `None` where `n < k`.
///
/// Chen et al., "Evaluating large language models trained on code", 2021.
pub fn pass_at_k(n: u64, c: u64, k: u64) -> Option<f64> {
    if n < k || k == 0 || c > n {
        return None;
    }
    if n - c < k {
        return Some(1.0);
    }
    let all_fail: f64 = (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    Some(1.0 - all_fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_matches_known_values() {
        let (low, high) = wilson_interval(250, 500);
        assert!((low - 0.4563).abs() < 1e-3 && (high - 0.5437).abs() < 1e-3, "{low} {high}");
        assert_eq!(wilson_interval(0, 0), (0.0, 1.0));
        assert!(wilson_interval(0, 10).0.abs() < 1e-12 && wilson_interval(10, 10).1 <= 1.0);
    }

    #[test]
    fn pass_at_k_matches_enumeration() {
        assert_eq!(pass_at_k(4, 1, 1), Some(0.25));
        assert_eq!(pass_at_k(4, 1, 4), Some(1.0));
        assert_eq!(pass_at_k(2, 0, 2), Some(0.0));
        assert_eq!(pass_at_k(2, 1, 3), None);
        // 4 samples, 2 right, draw 2: one of the six pairs has none right.
        assert!((pass_at_k(4, 2, 2).unwrap() - 5.0 / 6.0).abs() < 1e-12);
    }
}
