//! What the demo does as an ordinary user: build, and ask for root for the rest.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use crate::lab::needs;

/// Shown when the network could not be made.
pub(super) const WHAT_IT_TAKES: &str = "The demo needs Linux 6.1 or later with veth, bridge and BPF (any Debian or Ubuntu kernel), the `ip` command\n\
(apt-get install iproute2), and root that may make network namespaces: most containers may not.";

/// Builds pen-ctl, then starts itself again as root, through sudo where that is needed.
pub(super) fn build_and_become_root() -> ExitCode {
    println!("Building pen-ctl …");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    match Command::new(cargo).args(["build", "--quiet", "--package", "pen-ctl"]).status() {
        Ok(status) if status.success() => {}
        Ok(_) => return fail("pen-ctl does not build; see above"),
        Err(error) => {
            return fail(&format!("cargo does not start: {error}; call this as `cargo xtask demo`"));
        }
    }
    let Ok(ourselves) = env::current_exe() else { return fail("cannot find this program's own file") };
    match play_command(ourselves) {
        // Returns only when it failed.
        Ok(mut command) => fail(&format!("cannot go on as root: {}", command.exec())),
        Err(why) => fail(&why),
    }
}

/// The command that plays: this program, as root.
fn play_command(ourselves: PathBuf) -> Result<Command, String> {
    let has = |program: &str| {
        let found = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_ok()
    };
    if !has("ip") {
        return Err("the `ip` command is missing; get it with: sudo apt-get install iproute2".to_owned());
    }
    let mut command = if needs::missing().is_none() {
        Command::new(&ourselves)
    } else if has("sudo") {
        println!(
            "Making network namespaces and loading XDP programs takes root; nothing else is asked of sudo."
        );
        let mut sudo = Command::new("sudo");
        sudo.arg("--").arg(&ourselves);
        sudo
    } else {
        let again = format!("{} demo --prepared", ourselves.display());
        return Err(format!("this takes root, and there is no sudo here; as root, run: {again}"));
    };
    command.args(["demo", "--prepared"]);
    Ok(command)
}

fn fail(why: &str) -> ExitCode {
    eprintln!("demo: {why}");
    ExitCode::FAILURE
}
