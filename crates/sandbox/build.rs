//! Builds the guest, a static program, with a cargo of its own, so that the runner can embed it.
//!
//! The nested build has its own target folder below `OUT_DIR`: it never waits for the lock of the outer one.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    // Relative to this package: two checkouts that share a target folder must not look at each other's files.
    for input in ["../guest/src", "../guest/Cargo.toml", "../../Cargo.lock", "build.rs"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let guest = manifest.join("../guest").canonicalize()?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let built = build(&guest, &out.join("guest"), &env::var("HOST")?)?;
    replace_if_different(&built, &out.join("thresher-guest"))?;
    Ok(())
}

/// Builds the guest and returns where the program is.
fn build(guest: &Path, target_dir: &Path, triple: &str) -> Result<PathBuf, Box<dyn Error>> {
    let mut cargo = Command::new(env::var_os("CARGO").ok_or("cargo sets CARGO for build scripts")?);
    cargo.args(["build", "--release", "--bin", "thresher-guest"]);
    cargo.arg("--manifest-path").arg(guest.join("Cargo.toml"));
    // Naming the target keeps the flags below away from procedural macros, which cannot be static.
    cargo.args(["--target", triple]).arg("--target-dir").arg(target_dir);
    forget_outer_build(&mut cargo);
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    for (setting, value) in [
        ("OPT_LEVEL", "s"),
        ("LTO", "thin"),
        ("CODEGEN_UNITS", "4"),
        ("PANIC", "abort"),
        ("STRIP", "symbols"),
        ("DEBUG", "0"),
        ("INCREMENTAL", "false"),
    ] {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("the guest did not build: {status}").into());
    }
    Ok(target_dir.join(triple).join("release/thresher-guest"))
}

/// Removes what the outer build sets for itself: its flags, its wrappers (clippy is one) and its folders.
fn forget_outer_build(cargo: &mut Command) {
    for name in [
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTC",
        "RUSTDOC",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_BUILD_BUILD_DIR",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "__CARGO_DEFAULT_LIB_METADATA",
    ] {
        cargo.env_remove(name);
    }
}

/// Copies the program only where it changed, so that the crate is not compiled anew for nothing.
fn replace_if_different(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    let new = fs::read(from)?;
    if fs::read(to).ok().as_ref() != Some(&new) {
        fs::write(to, new)?;
    }
    Ok(())
}
