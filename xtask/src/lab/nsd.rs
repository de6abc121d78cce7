//! NSD on a backend: the zone `lab`, in which TXT of `whoami.lab` tells which.

use std::net::IpAddr;
use std::process::Command;

use super::address::Family;
use super::daemon::{Daemon, Directory};
use super::{Host, Lab, Result, dns};

/// The program, and Debian's package.
pub const PROGRAM: (&str, &str) = ("nsd", "nsd");

/// Starts it on the backend's own addresses and these VIPs: over UDP an answer must leave with the address that
/// was asked.
pub fn start(lab: &Lab, host: &Host, vips: &[IpAddr]) -> Result<Daemon> {
    let directory = Directory::of(lab, host, "nsd")?;
    directory.write("lab.zone", &zone(host))?;
    let path = directory.write("nsd.conf", &configuration(host, vips, &directory))?;
    let mut command = Command::new(PROGRAM.0);
    command.arg("-d").arg("-c").arg(path);
    Daemon::start(host, command, &directory, dns::PORT)
}

fn zone(host: &Host) -> String {
    let (name, address) = (&host.name, host.address(Family::V4));
    format!(
        "$ORIGIN lab.\n@ 0 SOA ns hostmaster 1 3600 900 86400 0\n@ 0 NS ns\nns 0 A {address}\nwhoami 0 TXT \"{name}\"\n"
    )
}

fn configuration(host: &Host, vips: &[IpAddr], directory: &Directory) -> String {
    let own = Family::BOTH.map(|family| host.address(family));
    let listen: String =
        vips.iter().chain(&own).map(|address| format!("  ip-address: {address}\n")).collect();
    let (port, place) = (dns::PORT, directory.path.display());
    // No rate limits: its clients are few and quick.
    format!(
        r#"server:
{listen}  port: {port}
  server-count: 1
  username: ""
  zonesdir: "{place}"
  zonelistfile: "{place}/zone.list"
  xfrdfile: ""
  xfrdir: "{place}"
  database: ""
  pidfile: "{place}/nsd.pid"
  logfile: "{place}/log"
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: lab
  zonefile: lab.zone
"#
    )
}
