//! The client of OpenAI-compatible endpoints: tries, pauses and limits around single exchanges.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng};
use thresher_core::fault::{Blame, Fault, Phase, Retry};
use thresher_core::run_spec::ModelSpec;
use thresher_core::secret::Secret;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::exchange::{Setback, TryError, exchange};
use super::http::Endpoint;
use super::redact::Redactor;
use super::retry::{self, RetryBudget};
use super::slots::Slots;
use super::{ChatReply, ChatRequest, Llm, LlmError, LlmSetupError, price, request};

/// A client of one endpoint and one model, shared by all rollouts of a run.
pub(super) struct OpenAiClient {
    spec: ModelSpec,
    endpoint: Endpoint,
    redactor: Redactor,
    budget: Mutex<RetryBudget>,
    slots: Slots,
    jitter: Mutex<StdRng>,
}

/// What a query has behind it, for the message of its fault.
#[derive(Default)]
struct Progress {
    tries: u32,
    last_setback: Option<String>,
}

impl OpenAiClient {
    /// Checks the spec and builds the client; nothing is sent yet.
    pub(super) fn new(spec: &ModelSpec, key: Option<Secret>) -> Result<Self, LlmSetupError> {
        check_numbers(spec)?;
        request::check_extra_body(&spec.extra_body)?;
        let jitter = StdRng::try_from_rng(&mut SysRng).expect("the operating system gives random bytes");
        Ok(Self {
            endpoint: Endpoint::new(spec, key.as_ref())?,
            redactor: Redactor::new(key.as_ref()),
            budget: Mutex::new(RetryBudget::new(spec.client.retry_ratio)),
            slots: Slots::new(spec.client.max_concurrency),
            jitter: Mutex::new(jitter),
            spec: spec.clone(),
        })
    }

    /// Tries until there is a reply, an end that no retry changes, or no retry left.
    async fn persist(
        &self,
        request: &ChatRequest<'_>,
        deadline: Instant,
        progress: &mut Progress,
    ) -> Result<ChatReply, LlmError> {
        let body = Bytes::from(request::body(&self.spec, request));
        loop {
            let setback = match self.try_once(request, body.clone(), progress).await {
                Ok(reply) => return Ok(reply),
                Err(TryError::Final(error)) => return Err(self.redacted(error)),
                Err(TryError::Again(setback)) => setback,
            };
            let reason = self.redactor.text(&setback.reason);
            let pause = self.pause_after(&setback, progress.tries, deadline);
            progress.last_setback = Some(reason.clone());
            let pause = pause.map_err(|why_not| self.fault(&why_not, progress))?;
            tracing::warn!(tries = progress.tries, ?pause, reason, "a model call is tried again");
            sleep(pause).await;
        }
    }

    async fn try_once(
        &self,
        request: &ChatRequest<'_>,
        body: Bytes,
        progress: &mut Progress,
    ) -> Result<ChatReply, TryError> {
        let slot = self.slots.take().await;
        progress.tries += 1;
        let result = exchange(&self.endpoint, &self.spec.client, request.session, body, request.step).await;
        match result {
            Ok(mut reply) => {
                slot.succeeded();
                lock(&self.budget).earn();
                self.redactor.reply(&mut reply);
                let cost_usd = self.spec.price.as_ref().map(|price| price::cost_usd(price, &reply.usage));
                Ok(ChatReply { tries: progress.tries, cost_usd, ..reply })
            }
            Err(error) => {
                if matches!(&error, TryError::Again(Setback { overloaded: true, .. })) {
                    slot.overloaded();
                }
                Err(error)
            }
        }
    }

    /// The pause before the next try, or why there is none.
    fn pause_after(&self, setback: &Setback, tries: u32, deadline: Instant) -> Result<Duration, String> {
        if tries >= self.spec.client.max_tries {
            return Err("all tries failed".to_owned());
        }
        let chance = lock(&self.jitter).random_range(0.0..=1.0);
        let pause = retry::pause(&self.spec.client, tries, chance, setback.asked);
        if pause >= deadline.saturating_duration_since(Instant::now()) {
            return Err(format!("the next try, in {pause:.1?}, would be after the query's time limit"));
        }
        // Spent last, so that only retries that happen cost something.
        if !lock(&self.budget).spend() {
            return Err("the retry budget that all calls share is spent".to_owned());
        }
        Ok(pause)
    }

    fn fault(&self, why: &str, progress: &Progress) -> LlmError {
        let tries =
            if progress.tries == 1 { "1 try".to_owned() } else { format!("{} tries", progress.tries) };
        let last = progress.last_setback.as_deref().map(|last| format!("; last: {last}")).unwrap_or_default();
        let provider = self.endpoint.provider();
        let message = format!("the model endpoint {provider} gave no reply in {tries}: {why}{last}");
        LlmError::Fault(Fault::new(Blame::Model, Retry::Later, Phase::Agent, message))
    }

    fn redacted(&self, error: LlmError) -> LlmError {
        match error {
            LlmError::ContextOverflow(text) => LlmError::ContextOverflow(self.redactor.text(&text)),
            LlmError::Refused(text) => LlmError::Refused(self.redactor.text(&text)),
            LlmError::Fault(fault) => {
                let message = format!("the model endpoint {}: {}", self.endpoint.provider(), fault.message);
                LlmError::Fault(Fault { message: self.redactor.text(&message), ..fault })
            }
            LlmError::Cancelled => LlmError::Cancelled,
        }
    }
}

#[async_trait]
impl Llm for OpenAiClient {
    async fn chat(
        &self,
        request: ChatRequest<'_>,
        cancel: &CancellationToken,
    ) -> Result<ChatReply, LlmError> {
        let _call = CallInBudget::begin(&self.budget);
        let mut progress = Progress::default();
        let deadline = Instant::now() + request.timeout;
        // Whichever ends first drops the exchange, and with it its connection.
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(LlmError::Cancelled),
            ended = timeout_at(deadline, self.persist(&request, deadline, &mut progress)) => ended,
        };
        ended.unwrap_or_else(|_| {
            let why = format!("the time limit of {:.1?} for the query passed", request.timeout);
            Err(self.fault(&why, &progress))
        })
    }

    fn provider(&self) -> String {
        self.endpoint.provider()
    }

    fn model(&self) -> &str {
        &self.spec.name
    }
}

/// Counts a call as long as it lives, however it ends.
struct CallInBudget<'a>(&'a Mutex<RetryBudget>);

impl<'a> CallInBudget<'a> {
    fn begin(budget: &'a Mutex<RetryBudget>) -> Self {
        lock(budget).begin();
        Self(budget)
    }
}

impl Drop for CallInBudget<'_> {
    fn drop(&mut self) {
        lock(self.0).end();
    }
}

/// The values behind these locks are plain numbers, whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_numbers(spec: &ModelSpec) -> Result<(), LlmSetupError> {
    let client = &spec.client;
    let at_least_one = [
        ("client.connect_timeout_s", client.connect_timeout_s),
        ("client.first_byte_timeout_s", client.first_byte_timeout_s),
        ("client.stall_timeout_s", client.stall_timeout_s),
        ("client.max_tries", client.max_tries.into()),
        ("client.max_concurrency", client.max_concurrency.unwrap_or(1).into()),
    ];
    if let Some((field, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
        return Err(LlmSetupError::Value { field, reason: "must be at least 1".to_owned() });
    }
    if !(client.retry_ratio.is_finite() && client.retry_ratio >= 0.0) {
        let reason = "must be 0 or more".to_owned();
        return Err(LlmSetupError::Value { field: "client.retry_ratio", reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn client(settings: serde_json::Value) -> OpenAiClient {
        let spec = json!({ "name": "m", "base_url": "http://127.0.0.1:1/v1", "client": settings });
        OpenAiClient::new(&serde_json::from_value(spec).unwrap(), None).unwrap()
    }

    fn pause(client: &OpenAiClient, asked: Option<u64>, tries: u32, left: u64) -> Result<Duration, String> {
        let asked = asked.map(Duration::from_secs);
        let setback = Setback { reason: "busy".into(), asked, overloaded: true };
        client.pause_after(&setback, tries, Instant::now() + Duration::from_secs(left))
    }

    #[tokio::test(start_paused = true)]
    async fn the_endpoint_names_the_pause_and_limits_end_it() {
        let client = client(json!({ "max_tries": 4, "backoff_ms": 1_000, "max_backoff_ms": 2_000 }));
        let within = |from: u64, to: u64| Duration::from_secs(from)..=Duration::from_secs(to);
        for _ in 0..20 {
            assert!(within(0, 1).contains(&pause(&client, None, 1, 600).unwrap()));
            assert!(within(0, 2).contains(&pause(&client, None, 3, 600).unwrap()));
            assert!(within(60, 61).contains(&pause(&client, Some(60), 1, 600).unwrap()));
        }
        assert!(pause(&client, Some(60), 1, 60).unwrap_err().contains("time limit"));
        assert!(pause(&client, None, 4, 600).unwrap_err().contains("all tries"));
        // The retries above came out of the budget, those that were refused did not.
        let left = (0..1_000).take_while(|_| pause(&client, None, 1, 600).is_ok()).count();
        assert_eq!(left, 100 - 60);
        assert!(pause(&client, None, 1, 600).unwrap_err().contains("budget"));
    }
}
