//! Starts a command: fork, and between fork and exec nothing but system calls.
//!
//! A plain fork rather than vfork, since the guest must not wait for a child that something inside stops before its
//! exec. The guest is small, so the fork is cheap; and it has one thread, so the child may do what it likes.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use rustix::fs::MemfdFlags;
use rustix::pipe::PipeFlags;
use thresher_guest::CommandBody;

use crate::setup::Prepared;

/// A command that was forked; whether its exec succeeds shows later.
pub(crate) struct Child {
    /// Its process id, session and group.
    pub(crate) pid: i32,
    /// Reading end of its output pipes: one where the streams are merged.
    pub(crate) outputs: Vec<OwnedFd>,
    failed: OwnedFd,
    /// Held while the command may read it.
    _script: Option<Script>,
}

impl Child {
    /// Why the command could not be started; to be asked after its end.
    pub(crate) fn start_error(&self) -> Option<i32> {
        let mut errno = [0; 4];
        match rustix::io::read(&self.failed, &mut errno) {
            Ok(4) => Some(i32::from_ne_bytes(errno)),
            _ => None,
        }
    }
}

/// Forks and lets the child become `command`. The error is an `errno`.
pub(crate) fn spawn(prepared: &mut Prepared, command: &CommandBody, merged: bool) -> Result<Child, i32> {
    start(prepared, command, merged).map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
}

fn start(prepared: &mut Prepared, command: &CommandBody, merged: bool) -> io::Result<Child> {
    let script = command.script.as_deref().map(Script::new).transpose()?;
    let plan = Plan::new(command, script.as_ref().map(|script| script.path.as_str()))?;
    let (stdout, stdout_child) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, stderr_child) = match merged {
        true => (None, None),
        false => {
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map(|(read, write)| (Some(read), Some(write)))?
        }
    };
    let (failed, failed_child) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let Prepared { oom, null } = prepared;
    let files = Files {
        stdin: null.as_fd(),
        stdout: stdout_child.as_fd(),
        stderr: stderr_child.as_ref().unwrap_or(&stdout_child).as_fd(),
        script: script.as_ref().and_then(|script| script.memory.as_ref()).map(AsFd::as_fd),
        failed: failed_child.as_fd(),
    };
    let pid = oom.raised(|| fork(&plan, &files))?;
    let outputs: Vec<OwnedFd> = std::iter::once(stdout).chain(stderr).collect();
    for output in &outputs {
        rustix::io::ioctl_fionbio(output, true)?;
    }
    Ok(Child { pid, outputs, failed, _script: script })
}

/// Everything the child needs, in the form that exec takes it.
struct Plan {
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
}

impl Plan {
    fn new(command: &CommandBody, script: Option<&str>) -> io::Result<Self> {
        let program = command.argv.first().ok_or(io::ErrorKind::InvalidInput)?;
        let argv = command.argv.iter().map(|argument| CString::new(&argument[..]));
        let mut argv = argv.collect::<Result<Vec<_>, _>>().map_err(nul)?;
        argv.extend(script.map(CString::new).transpose().map_err(nul)?);
        let env = command.env.iter().map(|(name, value)| CString::new([name, &b"="[..], value].concat()));
        Ok(Self {
            programs: candidates(program, path_of(&command.env))?,
            argv,
            env: env.collect::<Result<Vec<_>, _>>().map_err(nul)?,
            cwd: CString::new(&command.cwd[..]).map_err(nul)?,
        })
    }
}

fn nul(_: std::ffi::NulError) -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

fn path_of(env: &[(bytes::Bytes, bytes::Bytes)]) -> &[u8] {
    const USUAL: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    env.iter().find(|(name, _)| name == "PATH").map_or(USUAL, |(_, path)| path)
}

/// Where the program may be, in the order to be tried.
fn candidates(program: &[u8], path: &[u8]) -> io::Result<Vec<CString>> {
    if program.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    if program.contains(&b'/') {
        return Ok(vec![CString::new(program).map_err(nul)?]);
    }
    let folders = path.split(|byte| *byte == b':');
    let join = |folder: &[u8]| {
        let folder = if folder.is_empty() { b"." } else { folder };
        CString::new([folder, b"/", program].concat())
    };
    folders.map(join).collect::<Result<_, _>>().map_err(nul)
}

/// A script without a length limit, as a path that the program can open.
struct Script {
    path: String,
    memory: Option<OwnedFd>,
}

impl Script {
    fn new(content: &[u8]) -> io::Result<Self> {
        if !Path::new("/proc/self/fd").is_dir() {
            return Self::in_file(content);
        }
        let memory = rustix::fs::memfd_create("script", MemfdFlags::CLOEXEC)?;
        write_all(&memory, content)?;
        rustix::fs::seek(&memory, rustix::fs::SeekFrom::Start(0))?;
        Ok(Self { path: format!("/proc/self/fd/{}", memory.as_raw_fd()), memory: Some(memory) })
    }

    /// Where a descriptor has no path: a file, removed with this value.
    fn in_file(content: &[u8]) -> io::Result<Self> {
        let path = crate::files::unused_name(Path::new("/tmp"));
        let file = std::fs::File::options().write(true).create_new(true).open(&path)?;
        let script =
            Self { path: String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned(), memory: None };
        write_all(file, content)?;
        Ok(script)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if self.memory.is_none() {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

fn write_all(fd: impl AsFd, mut content: &[u8]) -> io::Result<()> {
    while !content.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&fd, content))?;
        content = &content[written..];
    }
    Ok(())
}

/// Descriptors of the child.
struct Files<'a> {
    stdin: BorrowedFd<'a>,
    stdout: BorrowedFd<'a>,
    stderr: BorrowedFd<'a>,
    script: Option<BorrowedFd<'a>>,
    failed: BorrowedFd<'a>,
}

#[expect(unsafe_code, reason = "fork has no safe wrapper")]
fn fork(plan: &Plan, files: &Files<'_>) -> io::Result<i32> {
    let argv = pointers(&plan.argv);
    let env = pointers(&plan.env);
    // SAFETY: the guest has one thread, so the child's copy of memory is consistent; and `become_command` does not
    // return into code of the parent.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => become_command(plan, &argv, &env, files),
        pid => Ok(pid),
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// The child's whole life until exec. On failure tells the guest the `errno`.
#[expect(unsafe_code, reason = "dup2, sigprocmask and execve have no safe wrapper")]
fn become_command(
    plan: &Plan,
    argv: &[*const libc::c_char],
    env: &[*const libc::c_char],
    files: &Files<'_>,
) -> ! {
    // SAFETY: all pointers are to live, NUL-terminated strings and NULL-terminated arrays; the descriptors are open.
    // The standard descriptors are never among the sources, so no `dup2` overwrites one that is still needed.
    unsafe {
        libc::setsid();
        let ready = libc::dup2(files.stdin.as_raw_fd(), 0) >= 0
            && libc::dup2(files.stdout.as_raw_fd(), 1) >= 0
            && libc::dup2(files.stderr.as_raw_fd(), 2) >= 0
            && files.script.is_none_or(|script| libc::fcntl(script.as_raw_fd(), libc::F_SETFD, 0) == 0)
            && libc::chdir(plan.cwd.as_ptr()) == 0;
        let mut error = *libc::__errno_location();
        if ready {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            error = exec_first(&plan.programs, argv, env);
        }
        let bytes = error.to_ne_bytes();
        libc::write(files.failed.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
        libc::_exit(127)
    }
}

/// Becomes the first program that can be started; returns the `errno` to report, as `execvp` chooses it.
///
/// # Safety
/// `argv` and `env` are NULL-terminated arrays of NUL-terminated strings.
#[expect(unsafe_code, reason = "execve has no safe wrapper")]
unsafe fn exec_first(programs: &[CString], argv: &[*const libc::c_char], env: &[*const libc::c_char]) -> i32 {
    let mut report = libc::ENOENT;
    for program in programs {
        // SAFETY: as the caller promises.
        let error = unsafe {
            libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr());
            *libc::__errno_location()
        };
        match error {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => report = libc::EACCES,
            other => return other,
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_without_descriptors_is_a_file_while_it_is_needed() {
        let script = Script::in_file(b"echo").unwrap();
        let path = script.path.clone();
        assert_eq!(std::fs::read(&path).unwrap(), b"echo");
        drop(script);
        assert!(!Path::new(&path).exists());
    }

    #[test]
    fn programs_are_looked_up_as_a_shell_does() {
        for (program, path, expected) in [
            ("sh", "/a:/b", &["/a/sh", "/b/sh"][..]),
            ("sh", "", &["./sh"]),
            ("sh", "/a::b", &["/a/sh", "./sh", "b/sh"]),
            ("./sh", "/a", &["./sh"]),
            ("/x/sh", "/a", &["/x/sh"]),
        ] {
            let got = candidates(program.as_bytes(), path.as_bytes()).unwrap();
            let got: Vec<&str> = got.iter().map(|candidate| candidate.to_str().unwrap()).collect();
            assert_eq!(got, expected, "{program} in {path}");
        }
        assert_eq!(candidates(b"", b"/a").unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
