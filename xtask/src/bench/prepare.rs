//! Builds what is measured, and what measures it, with optimizations, and goes on in that build.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use super::BenchError;
use crate::lab::cluster::Programs;

/// Builds, then becomes the optimized build of this program; returns only if that fails.
///
/// With `with_pen` pen-ctl is built, too.
pub(super) fn build_and_go_on(with_pen: bool) -> BenchError {
    match build(with_pen).and_then(|()| optimized()) {
        Ok(path) => {
            let error = Command::new(&path).args(env::args_os().skip(1)).arg("--prepared").exec();
            BenchError::of(&path.display().to_string())(error)
        }
        Err(error) => error,
    }
}

fn build(with_pen: bool) -> Result<(), BenchError> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--release", "--package", "xtask"]);
    if with_pen {
        command.args(["--package", "pen-ctl"]);
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(BenchError::of("build with optimizations")(status)),
        Err(error) => Err(BenchError::of("start cargo")(error)),
    }
}

/// Where cargo puts it: `release` beside the directory of this build.
fn optimized() -> Result<PathBuf, BenchError> {
    let ourselves = env::current_exe().map_err(BenchError::of("find this program's own file"))?;
    let profile = ourselves.parent().unwrap_or(&ourselves);
    Ok(profile.with_file_name("release").join(ourselves.file_name().unwrap_or_default()))
}

/// The `pen-ctl` that was built with this program.
pub(super) fn pen_ctl() -> Result<PathBuf, BenchError> {
    let ourselves = env::current_exe().map_err(BenchError::of("find this program's own file"))?;
    Ok(Programs::beside(&ourselves).pen_ctl)
}
