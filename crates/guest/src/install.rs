//! The guest's mode `install`: writes this program into a folder, from where another container starts it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

/// Installs as `thresher-guest install FOLDER`: the file is `FOLDER/guest`.
pub(crate) fn main(folder: Option<&str>) -> ExitCode {
    match folder.map(|folder| install(Path::new(folder))) {
        Some(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn install(folder: &Path) -> io::Result<()> {
    let (unfinished, path) = (folder.join(".guest"), folder.join("guest"));
    fs::copy("/proc/self/exe", &unfinished)?;
    fs::set_permissions(&unfinished, Permissions::from_mode(0o555))?;
    fs::rename(&unfinished, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installed_program_is_this_one() {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path()).unwrap();
        let installed = folder.path().join("guest");
        assert_eq!(fs::read(&installed).unwrap(), fs::read("/proc/self/exe").unwrap());
        assert_eq!(fs::metadata(installed).unwrap().permissions().mode() & 0o777, 0o555);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
