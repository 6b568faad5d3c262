//! Registries for the tests: a real one where Debian's is installed, and one that only says "too many requests".

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A registry of our own on a loopback port; it ends when dropped.
pub(crate) struct Registry {
    process: Child,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// `None`, said on standard error, if the program is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let Some(program) =
            ["/usr/bin/docker-registry", "/bin/registry"].map(PathBuf::from).into_iter().find(|p| p.exists())
        else {
            eprintln!("skipped: docker-registry is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let address = free_port();
        let process = serve(&program, folder.path(), address);
        let registry = Self { process, address, _folder: folder };
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Some(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn serve(program: &Path, folder: &Path, address: SocketAddr) -> Child {
    let config = folder.join("config.yml");
    let storage = folder.join("storage");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: \"{}\"}}}}\nhttp: {{addr: \"{address}\"}}\n",
        storage.display()
    );
    std::fs::write(&config, text).unwrap();
    Command::new(program)
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A loopback address that was free a moment ago.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A registry that answers every request with 429, and counts them.
pub(crate) struct Refusing {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

impl Refusing {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = requests.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(refuse(stream));
            }
        });
        Self { address, requests, server }
    }

    /// Connections seen so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn refuse(mut stream: tokio::net::TcpStream) {
    let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
    let head = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nConnection: close\r\n";
    drop(stream.read(&mut [0; 4096]).await);
    drop(stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await);
}
