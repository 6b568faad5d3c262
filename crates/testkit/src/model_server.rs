//! A scripted OpenAI-compatible server.

mod check;
mod connection;
mod fault_plan;
mod log;
mod script;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use connection::{Connection, ResettableListener};
use log::{Log, OpenExchange};

pub use fault_plan::{FaultPlan, Misbehaviour};
pub use log::{End, Exchange, Outcome};
pub use script::{Answer, Reply, Script, ScriptTable, Turn};

/// How the server treats its callers. The default serves any model without a key, at once and reliably.
#[derive(Clone, Debug, Default)]
pub struct ModelServerSpec {
    /// The only model there is; any if `None`.
    pub model: Option<String>,
    /// The key that callers must send; if `None`, one that is sent is refused.
    pub key: Option<String>,
    /// Headers that must all carry the same session id. The first one tells conversations apart.
    pub session_headers: Vec<String>,
    /// Fields of the request body that are accepted besides the usual ones.
    pub extra_fields: Vec<String>,
    /// Shortest and longest wait before an answer.
    pub latency: (Duration, Duration),
    /// What goes wrong.
    pub faults: FaultPlan,
}

/// A running server; it stops when dropped.
pub struct ModelServer {
    base_url: String,
    log: Log,
    accepting: JoinHandle<()>,
}

impl ModelServer {
    /// Starts a server on a free loopback port.
    ///
    /// # Errors
    /// Where no port can be bound.
    pub async fn start(spec: ModelServerSpec, script: impl Script) -> io::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST, spec, script).await
    }

    /// Starts a server on a free port of an address of this machine, for callers that loopback does not reach.
    ///
    /// # Errors
    /// Where no port can be bound.
    pub async fn start_at(address: Ipv4Addr, spec: ModelServerSpec, script: impl Script) -> io::Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let base_url = format!("http://{}/v1", listener.local_addr()?);
        let log = Log::default();
        let shared = Arc::new(Shared { spec, script: Box::new(script), log: log.clone() });
        let routes = Router::new()
            .route("/v1/chat/completions", post(complete))
            .route("/v1/models", get(models))
            .with_state(shared)
            .into_make_service_with_connect_info::<Connection>();
        let accepting = tokio::spawn(async move {
            // Serving ends only with this task.
            drop(axum::serve(ResettableListener(listener), routes).await);
        });
        Ok(Self { base_url, log, accepting })
    }

    /// The address that a client is given, with its `/v1`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Every request so far, in order of arrival.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.log.all()
    }

    /// The reasons of all refusals so far: empty where every request was well-formed.
    pub fn refusals(&self) -> Vec<String> {
        let reason = |exchange: Exchange| match exchange.outcome {
            Outcome::Refused(reason) => Some(reason),
            Outcome::Pending | Outcome::Answered | Outcome::Misbehaved(_) => None,
        };
        self.exchanges().into_iter().filter_map(reason).collect()
    }

    /// Waits until the requests so far satisfy `condition`, and returns them.
    pub async fn wait_for(&self, condition: impl Fn(&[Exchange]) -> bool) -> Vec<Exchange> {
        self.log.wait_for(condition).await
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Shared {
    spec: ModelServerSpec,
    script: Box<dyn Script>,
    log: Log,
}

async fn models(State(shared): State<Arc<Shared>>) -> Response {
    let id = shared.spec.model.as_deref().unwrap_or("any");
    json_response(StatusCode::OK, &json!({ "object": "list", "data": [{ "id": id, "object": "model" }] }))
}

async fn complete(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let headers = plain_headers(&headers);
    let session = shared.spec.session_headers.first().and_then(|name| headers.get(&name.to_lowercase()));
    let mut open = shared.log.open(session.cloned(), headers.clone(), body.to_vec());
    let body = match check::request(&shared.spec, &headers, &body) {
        Ok(body) => body,
        Err(refusal) => return refuse(open, refusal),
    };
    let turn = Turn::new(open.number(), open.session(), &body);
    let attempt = match open.join_conversation(&turn) {
        Ok(attempt) => attempt,
        Err(reason) => return refuse(open, check::Refusal::bad_request(reason)),
    };
    let turn = Turn { attempt, ..turn };
    let mut answer = shared.script.answer(&turn);
    answer.misbehaviour = answer.misbehaviour.or_else(|| shared.spec.faults.draw(&turn));
    tokio::time::sleep(shared.spec.faults.latency(shared.spec.latency, &turn)).await;
    give(open, &connection, &turn, answer).await
}

/// Answers as the script and the fault plan want it.
async fn give(mut open: OpenExchange, connection: &Connection, turn: &Turn, answer: Answer) -> Response {
    let pieces = wire::pieces(turn, &answer.reply);
    let Some(misbehaviour) = answer.misbehaviour else {
        open.decide(Outcome::Answered);
        return stream_response(turn, wire::whole(open, pieces));
    };
    open.decide(Outcome::Misbehaved(misbehaviour.clone()));
    match misbehaviour {
        Misbehaviour::Status { status, retry_after, body } => {
            open.close();
            let status = StatusCode::from_u16(status).expect("the script names an HTTP status");
            let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
            if let Some(value) = retry_after {
                let value = value.parse().expect("the script names a header's value");
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
            response
        }
        Misbehaviour::Silence => {
            // Dropped by the server when the caller goes away.
            futures::future::pending::<()>().await;
            drop(open);
            StatusCode::OK.into_response()
        }
        Misbehaviour::Reset => {
            open.close();
            connection.reset();
            StatusCode::OK.into_response()
        }
        Misbehaviour::Stall { after } => stream_response(turn, wire::stalled(open, pieces, after)),
        Misbehaviour::Torn { after } => stream_response(turn, wire::torn(open, pieces, after)),
        Misbehaviour::Short { after } => stream_response(turn, wire::short(open, pieces, after)),
        Misbehaviour::ErrorInside { after, error } => {
            stream_response(turn, wire::broken_by_error(open, turn, pieces, after, &error))
        }
        Misbehaviour::Garbage => {
            let garbage = if turn.streamed() { "data: {\"choices\": [{\n\n" } else { "{\"choices\": [" };
            stream_response(turn, wire::whole(open, vec![Bytes::from_static(garbage.as_bytes())]))
        }
    }
}

fn refuse(mut open: OpenExchange, refusal: check::Refusal) -> Response {
    open.decide(Outcome::Refused(refusal.reason.clone()));
    open.close();
    let error = json!({ "message": refusal.reason, "type": refusal.kind, "code": refusal.kind });
    json_response(refusal.status, &json!({ "error": error }))
}

fn stream_response(turn: &Turn, body: Body) -> Response {
    let kind = if turn.streamed() { "text/event-stream; charset=utf-8" } else { "application/json" };
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn plain_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

#[cfg(test)]
mod tests;
