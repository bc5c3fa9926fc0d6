//! x
use crate::cli::DoctorArgs;
use std::process::ExitCode;
/// x
pub fn run(_: &DoctorArgs) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
