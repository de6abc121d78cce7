//! NSD on a backend: the zone `lab`, in which TXT of `whoami.lab` tells which.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use super::address::Family;
use super::daemon::{Daemon, Directory};
use super::{Host, Lab, Result, dns};

/// The program, and Debian's package.
pub const PROGRAM: (&str, &str) = ("nsd", "nsd");

/// The address of `www.lab`, on every backend.
pub const WWW: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Starts it on the backend's own addresses and these VIPs: over UDP an answer must leave with the address that
/// was asked.
pub fn start(lab: &Lab, host: &Host, vips: &[IpAddr]) -> Result<Daemon> {
    let directory = Directory::of(lab, host, "nsd")?;
    set_www(lab, host, WWW)?;
    let path = directory.write("nsd.conf", &configuration(host, vips, &directory))?;
    let mut command = Command::new(PROGRAM.0);
    command.arg("-d").arg("-c").arg(path);
    Daemon::start(host, command, &directory, dns::PORT)
}

/// Writes the zone with this address for `www.lab`; a server that runs takes it up when it reloads.
pub fn set_www(lab: &Lab, host: &Host, www: Ipv4Addr) -> Result<()> {
    Directory::of(lab, host, "nsd")?.write("lab.zone", &zone(host, www)).map(drop)
}

fn zone(host: &Host, www: Ipv4Addr) -> String {
    let (name, address) = (&host.name, host.address(Family::V4));
    format!(
        "$ORIGIN lab.\n@ 0 SOA ns hostmaster 1 3600 900 86400 0\n@ 0 NS ns\nns 0 A {address}\nwhoami 0 TXT \"{name}\"\nwww 0 A {www}\n"
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
