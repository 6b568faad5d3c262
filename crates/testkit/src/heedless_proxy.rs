//! An S3 server that accepts conditions and does not heed them.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse as _;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A proxy in front of a server that checks no signatures: it takes the conditions out of every request, as the
/// servers do that know only plain puts. It stops when dropped.
#[derive(Debug)]
pub struct HeedlessProxy {
    endpoint: String,
    accepting: JoinHandle<()>,
}

impl HeedlessProxy {
    /// Starts a proxy for `upstream` on a free loopback port.
    ///
    /// # Errors
    /// Where no port can be bound.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let routes = Router::new().fallback(forward).with_state(upstream);
        let accepting = tokio::spawn(async move {
            // Serving ends only with this task.
            drop(axum::serve(listener, routes).await);
        });
        Ok(Self { endpoint, accepting })
    }

    /// The URL of the proxy.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for HeedlessProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(State(upstream): State<SocketAddr>, mut request: Request) -> Response<Body> {
    for condition in [header::IF_MATCH, header::IF_NONE_MATCH] {
        request.headers_mut().remove(condition);
    }
    send(upstream, request)
        .await
        .unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, error.to_string()).into_response())
}

async fn send(upstream: SocketAddr, request: Request) -> io::Result<Response<Body>> {
    let stream = TcpStream::connect(upstream).await?;
    let (mut requests, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // It ends with the exchange, because nobody keeps the sender.
    tokio::spawn(connection);
    let response = requests.send_request(request).await.map_err(io::Error::other)?;
    Ok(response.map(Body::new))
}
