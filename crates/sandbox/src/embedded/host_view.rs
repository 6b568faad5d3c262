//! What the sandbox of `ImageRef::Host` sees of the machine: its programs and libraries, and nothing of its data.

use std::fs;
use std::path::Path;

use thresher_guest::launch::{Bind, Folder, Link, SmallFile};

/// Top-level folders with programs and libraries. On most machines all but `/usr` are links into it.
pub(crate) const PROGRAMS: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Parts of `/etc` that programs need to run at all: library search, command alternatives, public certificates,
/// modules of Perl. Nothing that names the machine or its people, and no keys.
pub(crate) const CONFIGURATION: [&str; 6] =
    ["alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "perl", "ssl/certs"];

const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nstaff:x:50:\nusers:x:100:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// The machine's part in a sandbox, found once per process.
#[derive(Clone, Debug, Default)]
pub(super) struct HostView {
    pub(super) folders: Vec<Folder>,
    pub(super) links: Vec<Link>,
    pub(super) binds: Vec<Bind>,
    pub(super) files: Vec<SmallFile>,
}

impl HostView {
    /// Looks at the machine.
    pub(super) fn look() -> Self {
        let mut view = Self::default();
        for (path, mode) in
            [("/etc", 0o755), ("/etc/ssl", 0o755), ("/root", 0o700), ("/run", 0o755), ("/var", 0o755)]
        {
            view.folder(path, mode);
        }
        view.folder("/var/tmp", 0o1777);
        PROGRAMS.iter().for_each(|name| view.show(&format!("/{name}")));
        CONFIGURATION.iter().for_each(|name| view.show(&format!("/etc/{name}")));
        for (path, content) in
            [("/etc/passwd", PASSWD), ("/etc/group", GROUP), ("/etc/nsswitch.conf", NSSWITCH)]
        {
            view.files.push(SmallFile { path: path.into(), content: content.into() });
        }
        view
    }

    fn folder(&mut self, path: &str, mode: u32) {
        self.folders.push(Folder { path: path.into(), mode });
    }

    /// Shows a path of the machine at the same place inside: a link as a link, the rest read-only.
    fn show(&mut self, path: &str) {
        let outside = Path::new(path);
        let Ok(found) = fs::symlink_metadata(outside) else { return };
        if found.is_symlink() && !path.starts_with("/etc") {
            if let Some(target) =
                fs::read_link(outside).ok().and_then(|target| target.into_os_string().into_string().ok())
            {
                self.links.push(Link { path: path.into(), target });
            }
            return;
        }
        if outside.is_dir() {
            self.folder(path, 0o755);
        }
        self.binds.push(Bind { source: outside.to_owned(), target: path.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_and_their_configuration_are_shown() {
        let view = HostView::look();
        for bind in &view.binds {
            let top = bind.target.split('/').nth(1).unwrap();
            assert!(PROGRAMS.contains(&top) || bind.target.starts_with("/etc/"), "{}", bind.target);
        }
        for secret in
            ["/etc/shadow", "/etc/passwd", "/etc/ssh", "/etc/ssl", "/etc/ssl/private", "/root", "/home"]
        {
            assert!(!view.binds.iter().any(|bind| bind.target == secret), "{secret}");
        }
        let made: Vec<_> = view.folders.iter().map(|folder| folder.path.as_str()).collect();
        for bind in &view.binds {
            let parent = Path::new(&bind.target).parent().unwrap().to_str().unwrap();
            assert!(parent == "/" || made.contains(&parent), "{} has no parent", bind.target);
        }
    }
}
