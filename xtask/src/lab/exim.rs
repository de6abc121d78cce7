//! Exim on a backend: whatever is sent to the domain `lab` lands in one maildir; its greeting tells the backend.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::daemon::{Daemon, Directory};
use super::{Error, Host, Lab, Result, smtp};

/// The program, and Debian's package.
pub const PROGRAM: (&str, &str) = ("exim4", "exim4-daemon-light");
/// As whom Debian's build receives mail.
const USER: &str = "Debian-exim";

/// Starts it on all addresses of the backend.
pub fn start(lab: &Lab, host: &Host) -> Result<Daemon> {
    let directory = Directory::of(lab, host, "exim")?;
    let own = Command::new("chown").args([USER, "."]).current_dir(&directory.path).status();
    if !own.is_ok_and(|status| status.success()) {
        let what = format!("chown {USER} {}", directory.path.display());
        return Err(Error::Failed { what, why: format!("is {} installed?", PROGRAM.1) });
    }
    let path = directory.write("exim.conf", &configuration(host, &directory))?;
    let mut command = Command::new(PROGRAM.0);
    // What a killed one had taken but not yet delivered, the next one finds in the queue.
    command.arg("-C").arg(path).args(["-bdf", "-q2s"]);
    Daemon::start(host, command, &directory, smtp::PORT)
}

/// Has it say 451 to everybody who connects, or serve them again.
pub fn set_busy(lab: &Lab, host: &Host, busy: bool) -> Result<()> {
    let path = busy_file(&Directory::of(lab, host, "exim")?);
    let done = if busy { fs::write(&path, "") } else { fs::remove_file(&path) };
    done.map_err(|e| Error::io(&path.display().to_string(), e))
}

fn busy_file(directory: &Directory) -> PathBuf {
    directory.path.join("busy")
}

/// The mails in a backend's mailbox, whole, each as Exim stored it.
pub fn mailbox(lab: &Lab, host: &Host) -> Result<Vec<String>> {
    let new = maildir(&Directory::of(lab, host, "exim")?).join("new");
    let failed = |e| Error::io(&new.display().to_string(), e);
    // Made with the first mail.
    if !new.exists() {
        return Ok(Vec::new());
    }
    let files = fs::read_dir(&new).map_err(failed)?;
    files.map(|file| fs::read_to_string(file.map_err(failed)?.path()).map_err(failed)).collect()
}

fn maildir(directory: &Directory) -> PathBuf {
    directory.path.join("mail")
}

fn configuration(host: &Host, directory: &Directory) -> String {
    let (name, place, port) = (&host.name, directory.path.display(), smtp::PORT);
    let maildir = maildir(directory);
    let maildir = maildir.display();
    let busy = busy_file(directory);
    let busy = busy.display();
    format!(
        r#"primary_hostname = {name}.lab
spool_directory = {place}/spool
log_file_path = {place}/%slog
pid_file_path = {place}/pid
daemon_smtp_ports = {port}
smtp_banner = $primary_hostname ESMTP
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
message_size_limit = 50M
tls_advertise_hosts =
host_lookup =
rfc1413_query_timeout = 0s
deliver_drop_privilege = true
keep_environment =
acl_smtp_connect = connections
acl_smtp_rcpt = recipients
begin acl
connections:
  defer message = too busy
    condition = ${{if exists{{{busy}}}}}
  accept
recipients:
  accept domains = lab
  deny message = nobody here
begin routers
everybody:
  driver = accept
  transport = mailbox
begin transports
mailbox:
  driver = appendfile
  directory = {maildir}
  maildir_format
  user = {USER}
"#
    )
}
