//! Who is measured, and how each is started: one worker, two backends, room for all connections.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::BenchError;
use crate::lab::needs;

/// Connections for which a proxy has room: two descriptors each, below 20,000 in all, which is a common limit.
const CONNECTIONS: usize = 9_500;
/// Where Debian has nginx's stream module, and its package.
const STREAM_MODULE: (&str, &str) = ("/usr/lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream");

/// What clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// What stands between clients and backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Nothing.
    Direct,
    /// `pen-ctl proxy`.
    Pen,
    /// HAProxy, mode tcp.
    Haproxy,
    /// nginx's stream module.
    Nginx,
    /// Classic pen.
    Classic,
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Direct, Self::Pen, Self::Haproxy, Self::Nginx, Self::Classic];

    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Pen => "pen",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Classic => "classic_pen",
        }
    }

    /// Whether pen is compared with it.
    pub fn is_rival(self) -> bool {
        !matches!(self, Self::Direct | Self::Pen)
    }

    /// Whether it can carry that.
    pub(super) fn speaks(self, protocol: Protocol) -> bool {
        protocol == Protocol::Tcp || self != Self::Haproxy
    }

    /// What it needs and this machine lacks, with the way to get it.
    pub(super) fn missing(self) -> Option<String> {
        match self {
            Self::Direct | Self::Pen => None,
            Self::Haproxy => needs::missing_program(&[("haproxy", "haproxy")]),
            Self::Nginx => needs::missing_program(&[("nginx", "nginx")]).or_else(missing_module),
            Self::Classic => needs::missing_program(&[("pen", "pen")]),
        }
    }
}

fn missing_module() -> Option<String> {
    let (path, package) = STREAM_MODULE;
    let lacks = !Path::new(path).exists();
    lacks.then(|| format!("nginx's stream module, {path} (apt-get install {package})"))
}

/// What a proxy is to do.
pub(super) struct Task<'a> {
    /// What clients speak.
    pub(super) protocol: Protocol,
    /// Whether they receive streams without end.
    pub(super) bulk: bool,
    /// Where they come.
    pub(super) listen: SocketAddr,
    /// Where they are brought.
    pub(super) backends: &'a [SocketAddr],
    /// A directory for its configuration.
    pub(super) directory: &'a Path,
    /// The `pen-ctl` to measure.
    pub(super) pen_ctl: &'a Path,
}

impl Task<'_> {
    /// The command that starts a proxy in the foreground; `None` for none at all.
    pub(super) fn command(&self, subject: Subject) -> Result<Option<Command>, BenchError> {
        Ok(match subject {
            Subject::Direct => None,
            Subject::Pen => Some(self.pen()),
            Subject::Haproxy => {
                let mut command = Command::new("haproxy");
                command.args(["-db", "-f"]).arg(self.write("haproxy.cfg", &self.haproxy())?);
                Some(command)
            }
            Subject::Nginx => {
                let mut command = Command::new("nginx");
                command.args(["-e", "stderr", "-c"]).arg(self.write("nginx.conf", &self.nginx())?);
                Some(command)
            }
            Subject::Classic => Some(self.classic()),
        })
    }

    fn pen(&self) -> Command {
        let mut command = Command::new(self.pen_ctl);
        command.arg("proxy").arg(self.listen.to_string());
        command.args(self.backends.iter().map(ToString::to_string)).args(["--workers", "1"]);
        if self.protocol == Protocol::Udp {
            command.arg("--udp");
        }
        command
    }

    /// Its own limits are 500 connections; it stays with a client's backend, as pen does.
    fn classic(&self) -> Command {
        let mut command = Command::new("pen");
        command.arg("-f").args(["-x", &CONNECTIONS.to_string()]);
        if self.protocol == Protocol::Udp {
            command.arg("-U");
        }
        command.arg(self.listen.to_string()).args(self.backends.iter().map(ToString::to_string));
        command
    }

    /// Left to itself (`splice-auto`) it does not splice these streams; told to, it splices small answers as well, which
    /// costs it more than copying. So it is told for streams alone.
    fn haproxy(&self) -> String {
        let splice = if self.bulk { "option splice-response" } else { "option splice-auto" };
        let mut text = format!(
            "global\n    nbthread 1\n    maxconn {CONNECTIONS}\n    maxpipes 100\n    tune.pipesize 524288\n\
             defaults\n    mode tcp\n    {splice}\n    timeout connect 5s\n    timeout client 10m\n    \
             timeout server 10m\n\
             listen bench\n    bind {} backlog 4096\n",
            self.listen
        );
        for (number, backend) in self.backends.iter().enumerate() {
            let _ = writeln!(text, "    server b{number} {backend}");
        }
        text
    }

    /// A session with a UDP client lasts as long as with the others: `proxy_responses`, which would end it with the
    /// first answer, is left out.
    fn nginx(&self) -> String {
        let servers: String = self.backends.iter().map(|backend| format!("server {backend}; ")).collect();
        let listen = match self.protocol {
            Protocol::Tcp => format!("{} backlog=4096", self.listen),
            Protocol::Udp => format!("{} udp", self.listen),
        };
        format!(
            "load_module {module};\ndaemon off;\nuser root;\npid {directory}/nginx.pid;\nworker_processes 1;\n\
             worker_rlimit_nofile {descriptors};\nevents {{ worker_connections {descriptors}; multi_accept on; }}\n\
             stream {{\n    upstream bench {{ {servers}}}\n    server {{ listen {listen}; proxy_pass bench; }}\n}}\n",
            module = STREAM_MODULE.0,
            directory = self.directory.display(),
            descriptors = 2 * CONNECTIONS + 200,
        )
    }

    fn write(&self, name: &str, contents: &str) -> Result<PathBuf, BenchError> {
        let path = self.directory.join(name);
        std::fs::write(&path, contents).map_err(BenchError::of(&path.display().to_string()))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_the_same_backends() {
        let backends = ["127.0.0.1:81", "127.0.0.1:82"].map(|address| address.parse().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let task = Task {
            protocol: Protocol::Tcp,
            bulk: false,
            listen: "127.0.0.1:80".parse().unwrap(),
            backends: &backends,
            directory: directory.path(),
            pen_ctl: Path::new("pen-ctl"),
        };
        for text in
            [task.haproxy(), task.nginx(), format!("{:?}", task.pen()), format!("{:?}", task.classic())]
        {
            for address in [task.listen, backends[0], backends[1]] {
                assert!(text.contains(&address.to_string()), "{address} in {text}");
            }
        }
    }
}
