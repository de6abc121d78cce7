//! The servers of a backend, HTTP and DNS, in a process of their own so that it can be killed like a real one.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use super::address::Family;
use super::{Error, Host, Result, dns, http};

/// Name of xtask's hidden command that [`run`]s the servers.
pub const COMMAND: &str = "lab-server";

/// The servers' process on a backend; dropping it kills it.
pub struct ServerProcess(Child);

impl ServerProcess {
    /// Starts `xtask lab-server` on a host and returns once it answers. UDP is bound to each of `vips`, since
    /// an answer must leave with the address that was asked.
    pub fn start(xtask: &Path, host: &Host, vips: &[IpAddr]) -> Result<Self> {
        let mut command = Command::new(xtask);
        command.args([COMMAND, &host.name]).args(Family::BOTH.map(|family| host.address(family).to_string()));
        command.args(vips.iter().map(ToString::to_string));
        // Its own process group: Ctrl-C in a terminal is for the lab, which ends its processes itself.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = host.namespace.spawn(&mut command)?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(|e| Error::io("read from a server", e))?;
        }
        let process = Self(child);
        if line == "ready\n" {
            return Ok(process);
        }
        Err(Error::Failed { what: format!("start the servers of {}", host.name), why: "it ended".to_owned() })
    }

    /// SIGKILL: its connections are reset, new ones refused.
    pub fn kill(self) {}
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves until standard input ends, which it does when the lab's process is gone.
pub fn run(name: &str, addresses: &[IpAddr]) -> io::Result<()> {
    let name: Arc<str> = name.into();
    let own = addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let own = own.unwrap_or(Ipv4Addr::UNSPECIFIED);
    // Both families at once: Linux maps IPv4 into a wildcard IPv6 listener.
    let http = TcpListener::bind((Ipv6Addr::UNSPECIFIED, http::PORT))?;
    let dns = TcpListener::bind((Ipv6Addr::UNSPECIFIED, dns::PORT))?;
    let http_name = Arc::clone(&name);
    thread::spawn(move || accept(&http, move |stream| http::serve(stream, &http_name)));
    let dns_name = Arc::clone(&name);
    thread::spawn(move || accept(&dns, move |stream| dns::serve_tcp(stream, &dns_name, own)));
    for &address in addresses {
        let socket = UdpSocket::bind((address, dns::PORT))?;
        let name = Arc::clone(&name);
        thread::spawn(move || dns::serve_udp(&socket, &name, own));
    }
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

/// Serves each connection on a thread of its own.
fn accept(listener: &TcpListener, serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) {
    for stream in listener.incoming().flatten() {
        let serve = serve.clone();
        thread::spawn(move || serve(stream));
    }
}
