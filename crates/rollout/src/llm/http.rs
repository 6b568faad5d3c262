//! Where requests go: the HTTP client, the address and the headers. The one place that exposes the API key.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, RequestBuilder, Url};
use thresher_core::run_spec::ModelSpec;
use thresher_core::secret::Secret;

use super::LlmSetupError;

/// Long waits for a reply are normal, so only the peer's silence on TCP tells that it is gone.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

const USER_AGENT: &str = concat!("thresher/", env!("CARGO_PKG_VERSION"));

/// One endpoint, ready to be asked.
pub(super) struct Endpoint {
    client: Client,
    url: Url,
    /// Marked as sensitive, so that its `Debug` form hides it.
    authorization: Option<HeaderValue>,
    session_headers: Vec<HeaderName>,
}

impl Endpoint {
    /// Checks and builds everything that does not change between requests.
    pub(super) fn new(spec: &ModelSpec, key: Option<&Secret>) -> Result<Self, LlmSetupError> {
        let base = spec.base_url.as_deref();
        let base = base.ok_or_else(|| LlmSetupError::NoEndpoint { model: spec.name.clone() })?;
        let url = completions_url(base)?;
        let header = |name: &String| {
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| LlmSetupError::SessionHeader(name.clone()))
        };
        Ok(Self {
            client: client(spec, &url)?,
            url,
            authorization: key.map(authorization).transpose()?,
            session_headers: spec.client.session_headers.iter().map(header).collect::<Result<_, _>>()?,
        })
    }

    /// Prepares one request.
    pub(super) fn post(&self, session: &str, body: Bytes) -> RequestBuilder {
        let mut request =
            self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.session_headers.iter().fold(request, |request, name| request.header(name, session))
    }

    /// The endpoint's host, with its port where it is not the usual one.
    pub(super) fn provider(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

fn authorization(key: &Secret) -> Result<HeaderValue, LlmSetupError> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {}", key.expose())).map_err(|_| LlmSetupError::Key)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The address of chat completions below `base`, which may already be the whole address; its query is kept.
fn completions_url(base: &str) -> Result<Url, LlmSetupError> {
    // What stands before an @ may be a password.
    let shown = base.rsplit('@').next().unwrap_or_default().to_owned();
    let refuse = |reason: &str| LlmSetupError::BaseUrl { url: shown.clone(), reason: reason.to_owned() };
    let mut url = Url::parse(base.trim()).map_err(|error| refuse(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("its scheme is another one"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(
            "it holds a user name or password; name the key's variable in api_key_env instead",
        ));
    }
    let path = url.path().trim_end_matches('/');
    if !path.ends_with("/chat/completions") {
        url.set_path(&format!("{path}/chat/completions"));
    }
    Ok(url)
}

fn client(spec: &ModelSpec, url: &Url) -> Result<Client, LlmSetupError> {
    let mut builder = ClientBuilder::new()
        .tls_backend_preconfigured(tls(url)?)
        .connect_timeout(Duration::from_secs(spec.client.connect_timeout_s))
        .tcp_keepalive(TCP_KEEPALIVE)
        // A redirected POST would arrive as a GET, and the key could end up at another host.
        .redirect(Policy::none())
        .user_agent(USER_AGENT);
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| LlmSetupError::Http(chain(&error)))
}

/// The system's certificates, over ring. Plain HTTP needs none, and must work where none are installed.
fn tls(url: &Url) -> Result<rustls::ClientConfig, LlmSetupError> {
    let mut roots = rustls::RootCertStore::empty();
    if url.scheme() == "https" {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let reason = "this system has no certificates; install its package ca-certificates";
            return Err(LlmSetupError::Http(reason.to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An error with its causes, which reqwest's own text leaves out.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let table = [
            ("http://localhost:8000/v1", Ok("http://localhost:8000/v1/chat/completions")),
            ("http://localhost:8000/v1/", Ok("http://localhost:8000/v1/chat/completions")),
            ("https://a.example/v1/chat/completions", Ok("https://a.example/v1/chat/completions")),
            ("https://a.example/d?api-version=1", Ok("https://a.example/d/chat/completions?api-version=1")),
            ("http://a.example", Ok("http://a.example/chat/completions")),
            ("localhost:8000/v1", Err("its scheme is another one")),
            ("ftp://a.example", Err("its scheme is another one")),
            ("nonsense", Err("relative URL")),
            ("http://me:hunter2@a.example/v1", Err("\"a.example/v1\" is not")),
            ("http://me:hunter2@:x", Err("base_url")),
        ];
        for (base, expected) in table {
            match (completions_url(base), expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url.as_str(), expected),
                (Err(error), Err(part)) => {
                    let text = error.to_string();
                    assert!(text.contains(part) && !text.contains("hunter2"), "{text}");
                }
                (url, _) => panic!("{base}: {url:?}"),
            }
        }
    }

    #[test]
    fn what_a_record_calls_the_provider() {
        let table = [
            ("http://localhost:8000/v1", "localhost:8000", true),
            ("https://api.example.org/v1", "api.example.org", false),
            ("http://[::1]:8000/v1", "[::1]:8000", true),
            ("http://127.0.0.2/v1", "127.0.0.2", true),
        ];
        for (base, provider, loopback) in table {
            let spec = serde_json::json!({ "name": "m", "base_url": base });
            let spec: ModelSpec = serde_json::from_value(spec).unwrap();
            let url = completions_url(base).unwrap();
            assert_eq!(is_loopback(&url), loopback, "{base}");
            if url.scheme() == "http" {
                assert_eq!(Endpoint::new(&spec, None).unwrap().provider(), provider);
            }
        }
    }

    #[test]
    fn a_key_that_no_header_carries_is_not_shown() {
        let error = authorization(&Secret::new("sk-123\n456")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("123"));
        assert!(!format!("{:?}", authorization(&Secret::new("sk-123")).unwrap()).contains("123"));
    }
}
