//! What a reply costs.

use thresher_core::run_spec::PriceSpec;
use thresher_core::trajectory::Usage;

const TOKENS_PER_PRICE: f64 = 1_000_000.0;

/// US dollars for `usage`. Reasoning tokens are completion tokens, as endpoints count them.
pub(super) fn cost_usd(price: &PriceSpec, usage: &Usage) -> f64 {
    let cached = usage.cached_tokens.min(usage.prompt_tokens);
    let fresh = usage.prompt_tokens - cached;
    let dollars = |tokens: u64, price: f64| tokens as f64 * price / TOKENS_PER_PRICE;
    dollars(fresh, price.prompt)
        + dollars(cached, price.cached.unwrap_or(price.prompt))
        + dollars(usage.completion_tokens, price.completion)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_have_their_own_price() {
        let usage = Usage {
            prompt_tokens: 1_000_000,
            completion_tokens: 500_000,
            cached_tokens: 400_000,
            reasoning_tokens: 9,
        };
        let table = [(None, 2.0 + 4.0), (Some(0.5), 1.2 + 0.2 + 4.0)];
        for (cached, expected) in table {
            let cost = cost_usd(&PriceSpec { prompt: 2.0, completion: 8.0, cached }, &usage);
            assert!((cost - expected).abs() < 1e-9, "{cost} is not {expected}");
        }
        let odd = Usage { prompt_tokens: 1, cached_tokens: 5, ..Usage::default() };
        assert!(cost_usd(&PriceSpec { prompt: 2.0, completion: 8.0, cached: None }, &odd) < 3e-6);
    }
}
