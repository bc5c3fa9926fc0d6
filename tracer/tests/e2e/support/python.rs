//! Python with the packages that `scripts/setup --test` installs: gRPC and a MySQL driver.

/// The interpreter.
pub fn interpreter() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/python/bin/python");
    assert!(std::path::Path::new(path).exists(), "no {path}: run scripts/setup --test");
    path.to_owned()
}
