//! The libraries that `scripts/fetch-libssl` downloads.

use std::{env, path::PathBuf};

/// Where `scripts/fetch-libssl` put a library.
pub fn fetched(directory: &str, file: &str) -> PathBuf {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/libssl");
    let path = env::var_os("TRACER_LIBSSL_DIR").map_or(default, PathBuf::from).join(directory).join(file);
    let advice = "run scripts/fetch-libssl, or set TRACER_LIBSSL_DIR to where it was run";
    assert!(path.exists(), "{} is missing: {advice}", path.display());
    path
}
