//! Programs that pen runs for an administrator.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;

use rustix::io::{FdFlags, fcntl_setfd};

use crate::place::{Pen, await_that};
use crate::setting::backend;

/// Whoever starts pen may leave files open in it, as shells do that have some of their own.
#[test]
fn a_program_that_checks_finds_no_file_open_that_pen_was_started_with() {
    let mut pen = Pen::new();
    let held = File::create(pen.path("held")).unwrap();
    fcntl_setfd(&held, FdFlags::empty()).unwrap();
    pen.start("--dataplane proxy");
    drop(held);
    let seen = pen.path("seen");
    let script = format!("#!/bin/sh\nls -l /proc/self/fd > {0}.new\nmv {0}.new {0}\n", seen.display());
    let program = pen.write("check.sh", &script);
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    pen.ok(&format!("service add web {}/tcp --health exec,command={program}", pen.at(1, 8080)));
    pen.ok(&format!("backend add web {}", backend(&pen, 1)));
    let open =
        await_that("the check runs", || std::fs::read_to_string(&seen).map_err(|error| error.to_string()));
    assert!(!open.contains("held"), "{open}");
}
