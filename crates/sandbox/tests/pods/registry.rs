//! Puts images into a registry: the few requests that a push is made of.

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A registry that speaks plain HTTP.
pub(crate) struct Registry {
    pub(crate) address: String,
}

struct Answer {
    status: u16,
    head: String,
}

impl Registry {
    /// Pushes an image of one layer under `name` and `tag`; returns its reference.
    pub(crate) async fn push(&self, name: &str, tag: &str, tar: &[u8], env: &[&str]) -> String {
        let layer = self.blob(name, tar).await;
        let config = json!({
            "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
            "os": "linux",
            "config": {"Env": env, "Cmd": ["bash"]},
            "rootfs": {"type": "layers", "diff_ids": [layer]},
        });
        let config = config.to_string();
        let described = |kind: &str, digest: &str, size: usize| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size});
        let config_digest = self.blob(name, config.as_bytes()).await;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": described("config.v1+json", &config_digest, config.len()),
            "layers": [described("layer.v1.tar", &layer, tar.len())],
        });
        let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
        let path = format!("/v2/{name}/manifests/{tag}");
        let answer = self.ask("PUT", &path, kind, manifest.to_string().as_bytes()).await;
        assert_eq!(answer.status, 201, "{}", answer.head);
        format!("{}/{name}:{tag}", self.address)
    }

    async fn blob(&self, name: &str, content: &[u8]) -> String {
        let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = format!("sha256:{hex}");
        let present = self.ask("HEAD", &format!("/v2/{name}/blobs/{digest}"), "", &[]).await;
        if present.status == 200 {
            return digest;
        }
        let begun = self.ask("POST", &format!("/v2/{name}/blobs/uploads/"), "", &[]).await;
        let head = begun.head.to_ascii_lowercase();
        let at = head.find("\r\nlocation:").unwrap() + "\r\nlocation:".len();
        let location = begun.head[at..].lines().next().unwrap().trim();
        let path = location.strip_prefix(&format!("http://{}", self.address)).unwrap_or(location);
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}digest={digest}");
        let kind = "Content-Type: application/octet-stream\r\n";
        let put = self.ask("PUT", &path, kind, content).await;
        assert_eq!(put.status, 201, "{}", put.head);
        digest
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let (host, length) = (&self.address, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let head = String::from_utf8_lossy(&answer).into_owned();
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        Answer { status, head }
    }
}
