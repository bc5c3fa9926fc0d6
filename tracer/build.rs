//! Builds the kernel programs and hands their object to the crate, so that one `cargo build` makes the whole binary.
//!
//! What it needs is set up by `scripts/setup`: the source of `core` (RUST_SRC_LIBRARY, `.tools/rust-src/library`, or
//! the sysroot's rust-src component) and bpf-linker (BPF_LINKER, `.tools/bin/bpf-linker`, or in PATH).

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned();
    for input in ["tracer-ebpf/src", "tracer-ebpf/Cargo.toml", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(input).display());
    }
    for variable in ["RUST_SRC_LIBRARY", "BPF_LINKER"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let objects = build(&root);
    println!("cargo:rustc-env=TRACER_PROGRAMS={}", objects.join("tracer-programs").display());
    println!("cargo:rustc-env=EMPTY_PROGRAMS={}", objects.join("empty-programs").display());
}

/// Builds the kernel programs; the folder that their objects are in. It is one for all builds of this crate, which want
/// the same objects whatever their profile.
fn build(root: &Path) -> PathBuf {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    // --btf makes bpf-linker keep the types of the maps; they come from debug information.
    let flags = format!("--cfg=bpf_target_arch=\"{architecture}\"\x1f-Cdebuginfo=2\x1f-Clink-arg=--btf");
    let linker = linker(root);
    let target = root.join("target/programs").join(&architecture);
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo
        .current_dir(root)
        .args(["build", "--quiet", "--release", "--ignore-rust-version", "-Z", "build-std=core", "--target", TARGET])
        .args(["--package", "tracer-ebpf", "--bins", "--features", "programs", "--target-dir"])
        .arg(&target)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", core_source(root))
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET");
    let status = cargo.status().unwrap_or_else(|error| panic!("cannot run cargo for the kernel programs: {error}"));
    assert!(status.success(), "building the kernel programs failed ({status}); has scripts/setup been run?");
    target.join(TARGET).join("release")
}

/// The `library` folder that holds the source of `core`.
fn core_source(root: &Path) -> PathBuf {
    let sysroot = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"))
        .args(["--print", "sysroot"])
        .output()
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
        .unwrap_or_default();
    let places = [
        env::var_os("RUST_SRC_LIBRARY").map(PathBuf::from).unwrap_or_default(),
        root.join(".tools/rust-src/library"),
        sysroot.join("lib/rustlib/src/rust/library"),
    ];
    let found = places.iter().find(|place| place.join("core/src/lib.rs").exists());
    found.unwrap_or_else(|| panic!("no source of `core` in {places:?}: run scripts/setup")).clone()
}

fn linker(root: &Path) -> PathBuf {
    let own = root.join(".tools/bin/bpf-linker");
    match env::var_os("BPF_LINKER") {
        Some(linker) => linker.into(),
        None if own.exists() => own,
        None => "bpf-linker".into(),
    }
}
