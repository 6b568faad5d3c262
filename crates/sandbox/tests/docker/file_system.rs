//! File systems for images: shell, usual tools and perl of this machine, or next to nothing.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs of the test image; those that this machine lacks are left out.
pub(crate) const PROGRAMS: &[&str] = &[
    "bash",
    "sh",
    "perl",
    "awk",
    "grep",
    "sed",
    "find",
    "tar",
    "gzip",
    "git",
    "ps",
    "setsid",
    "nohup",
    "cat",
    "chmod",
    "chown",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "dirname",
    "basename",
    "echo",
    "env",
    "expr",
    "false",
    "head",
    "id",
    "install",
    "kill",
    "ln",
    "ls",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mknod",
    "mktemp",
    "mv",
    "nproc",
    "od",
    "printf",
    "pwd",
    "readlink",
    "realpath",
    "rm",
    "rmdir",
    "seq",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "stty",
    "tty",
    "sync",
    "tail",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "truncate",
    "uname",
    "uniq",
    "wc",
    "whoami",
    "xargs",
    "yes",
];

/// An image's tar with a single small file, which no other image has.
pub(crate) fn tiny_file_system(content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    add_file(&mut tar, "unique", content, 0o644);
    tar.into_inner().unwrap()
}

/// Shell, usual tools and perl of this machine with the libraries that they need.
pub(crate) fn root_file_system() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for dir in
        ["usr", "usr/bin", "usr/lib", "usr/lib64", "etc", "root", "proc", "sys", "dev", "tmp", "var", "work"]
    {
        add_entry(&mut tar, dir, tar::EntryType::Directory, if dir == "tmp" { 0o1777 } else { 0o755 }, None);
    }
    for dir in ["bin", "lib", "lib64"] {
        add_entry(&mut tar, dir, tar::EntryType::Symlink, 0o777, Some(&format!("usr/{dir}")));
    }
    add_file(
        &mut tar,
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n",
        0o644,
    );
    add_file(&mut tar, "etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644);
    let programs: Vec<_> = PROGRAMS.iter().map(|name| Path::new("/usr/bin").join(name)).collect();
    let programs = programs.into_iter().filter(|path| path.exists());
    let files = programs.flat_map(|program| with_libraries(&program)).chain(perl_modules());
    // By the path inside: a library is named below `/lib` and below `/usr/lib`.
    let files: BTreeMap<_, _> = files.map(|file| (inside(&file), file)).collect();
    for (path, file) in files {
        add_file(&mut tar, &path, &std::fs::read(&file).unwrap(), 0o755);
    }
    tar.into_inner().unwrap()
}

fn with_libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    libraries.chain([program.to_path_buf()]).filter(|path| path.exists()).collect()
}

/// perl's base modules, where Debian has them.
fn perl_modules() -> Vec<PathBuf> {
    let find =
        Command::new("find").args(["/usr/lib", "-path", "*/perl-base/*", "-type", "f"]).output().unwrap();
    String::from_utf8_lossy(&find.stdout).lines().map(PathBuf::from).collect()
}

/// The path in the image, below `usr` as its links have it.
fn inside(path: &Path) -> String {
    let path = path.to_str().unwrap().trim_start_matches('/');
    if path.starts_with("usr/") { path.to_owned() } else { format!("usr/{path}") }
}

pub(crate) fn add_file(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) {
    let mut header = header(tar::EntryType::Regular, mode);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).unwrap();
}

fn add_entry(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    link: Option<&str>,
) {
    let mut header = header(kind, mode);
    match link {
        Some(target) => tar.append_link(&mut header, path, target).unwrap(),
        None => tar.append_data(&mut header, path, std::io::empty().take(0)).unwrap(),
    }
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header
}
