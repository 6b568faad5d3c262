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

/// The two-sided p-value of the exact sign test: how likely `wins` against `losses`, or a more uneven split, is where
/// neither side is better. 1 where nothing differs. On pairs of binary results this is McNemar's exact test.
///
/// Q. McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.
pub fn sign_test(wins: u64, losses: u64) -> f64 {
    let trials = wins + losses;
    let mut log_term = -(trials as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for at in 0..=wins.min(losses) {
        tail += log_term.exp();
        log_term += ((trials - at) as f64 / (at + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// The mean of `differences` and its 95 % interval `(mean, low, high)`, by the normal approximation; `None` for fewer
/// than two.
pub fn mean_interval(differences: &[f64]) -> Option<(f64, f64, f64)> {
    const Z: f64 = 1.959_963_984_540_054;
    let n = differences.len() as f64;
    if differences.len() < 2 {
        return None;
    }
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let margin = Z * (variance / n).sqrt();
    Some((mean, mean - margin, mean + margin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_test_matches_the_binomial() {
        assert!((sign_test(0, 0) - 1.0).abs() < 1e-12);
        assert!((sign_test(5, 5) - 1.0).abs() < 1e-12);
        assert!((sign_test(0, 5) - 2.0 / 32.0).abs() < 1e-12);
        assert!((sign_test(9, 1) - 2.0 * 11.0 / 1024.0).abs() < 1e-12);
        assert!((sign_test(1, 9) - sign_test(9, 1)).abs() < 1e-15);
        let large = sign_test(900, 1_100);
        assert!(large > 1e-6 && large < 1e-5, "{large}");
    }

    #[test]
    fn means_come_with_their_interval() {
        assert_eq!(mean_interval(&[1.0]), None);
        let (mean, low, high) = mean_interval(&[1.0, 0.0, -1.0, 0.0]).unwrap();
        assert!(mean.abs() < 1e-12 && (high + low).abs() < 1e-12 && (high - 0.8).abs() < 1e-3, "{high}");
    }

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
