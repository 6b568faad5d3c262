//! Real S3 servers as child processes: started, killed, started again.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A kind of server; `scripts/lib/s3_servers.sh` installs all of them and sets the variable of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3ServerKind {
    /// Keeps objects as files, so that it may be killed and started again.
    Versitygw,
    /// Keeps objects in memory, and checks no signature.
    Moto,
    /// Checks conditions without ordering them, so that races have several winners.
    S3sFs,
}

impl S3ServerKind {
    /// The environment variable that names the program.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Versitygw => "THRESHER_TEST_VERSITYGW",
            Self::Moto => "THRESHER_TEST_MOTO",
            Self::S3sFs => "THRESHER_TEST_S3S_FS",
        }
    }

    /// The program; `None` where it is not installed, which a test reports as `skipped:`.
    pub fn program(self) -> Option<PathBuf> {
        std::env::var_os(self.variable()).filter(|program| !program.is_empty()).map(PathBuf::from)
    }
}

/// A server on a loopback port with one bucket. It is killed when dropped, and also when the thread that started it
/// ends in another way, such as by a kill of the test's process.
#[derive(Debug)]
pub struct S3Server {
    kind: S3ServerKind,
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl S3Server {
    /// The one bucket there is.
    pub const BUCKET: &'static str = "thresher-test";
    /// The id of the key that the servers know.
    pub const ACCESS_KEY_ID: &'static str = "tester";
    /// The key's secret.
    pub const SECRET_ACCESS_KEY: &'static str = "tester-secret";

    /// Starts a server that keeps its files in `folder`, on a port that is free now, and waits until it answers;
    /// `None` where the program is not installed.
    ///
    /// # Errors
    /// Where the program cannot be started or ends at once.
    pub fn start(kind: S3ServerKind, folder: &Path) -> io::Result<Option<Self>> {
        let Some(program) = kind.program() else { return Ok(None) };
        let mut server = Self { kind, program, folder: folder.to_owned(), port: free_port()?, child: None };
        server.restart()?;
        Ok(Some(server))
    }

    /// The URL of the server.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The environment variables that point a program at the server.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL_S3", self.endpoint()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", Self::ACCESS_KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", Self::SECRET_ACCESS_KEY.to_owned()),
        ]
    }

    /// The process of the server, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills the server with SIGKILL, in the middle of whatever it does. Nothing happens if it does not run.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; either way nothing is left of it.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Starts the server on the port and the folder that it had, after a kill, and waits until it answers.
    ///
    /// # Errors
    /// Where the program cannot be started or ends at once.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        if self.kind != S3ServerKind::Moto {
            std::fs::create_dir_all(self.folder.join(Self::BUCKET))?;
        }
        // `setpriv` is part of every Debian; it makes the kernel end the server with the thread that starts it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .args(self.arguments())
            .env("ROOT_ACCESS_KEY", Self::ACCESS_KEY_ID)
            .env("ROOT_SECRET_KEY", Self::SECRET_ACCESS_KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.child = Some(child);
        self.wait_until_it_answers()?;
        if self.kind == S3ServerKind::Moto {
            self.make_bucket()?;
        }
        Ok(())
    }

    fn arguments(&self) -> Vec<OsString> {
        let port = self.port.to_string();
        let texts = match self.kind {
            S3ServerKind::Versitygw => {
                vec!["--port".to_owned(), format!("127.0.0.1:{port}"), "posix".to_owned()]
            }
            S3ServerKind::Moto => ["-H", "127.0.0.1", "-p", &port].map(str::to_owned).to_vec(),
            S3ServerKind::S3sFs => {
                let key = [Self::ACCESS_KEY_ID, Self::SECRET_ACCESS_KEY];
                ["--host", "127.0.0.1", "--port", &port, "--access-key", key[0], "--secret-key", key[1]]
                    .map(str::to_owned)
                    .to_vec()
            }
        };
        let folder = (self.kind != S3ServerKind::Moto).then(|| self.folder.clone().into_os_string());
        texts.into_iter().map(OsString::from).chain(folder).collect()
    }

    fn wait_until_it_answers(&mut self) -> io::Result<()> {
        loop {
            if TcpStream::connect(self.address()).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().transpose()) {
                return Err(io::Error::other(format!(
                    "{} ended at once: {}",
                    self.program.display(),
                    status?
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn make_bucket(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.address())?;
        let bucket = Self::BUCKET;
        write!(
            stream,
            "PUT /{bucket} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        if status == "200" { Ok(()) } else { Err(io::Error::other(format!("no bucket was made: {answer}"))) }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
