//! End-to-end tests: the built tracer on real servers and clients, compared with what those know themselves.
//!
//! They need root (the tracer loads kernel programs) and the programs that `scripts/setup --test` installs; without
//! them they fail and say so. `TRACER_HOOK` chooses the source of socket data, `TRACER_BINARY` another build;
//! `scripts/vm-test` runs the same tests on other kernels.

mod support;

mod clients;
mod containers;
mod dns;
mod doctor;
mod errors;
mod gateway;
mod go;
mod grpc;
mod harm;
mod http2;
mod ladder;
mod lifecycle;
mod load;
mod mysql;
mod nginx;
mod pgsql;
mod recording;
mod redis;
mod rustls;
mod tls;
