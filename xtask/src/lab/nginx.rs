//! nginx on a backend: `GET /` tells which, files are served from its directory, `PUT` stores them there.

use std::process::Command;

use super::daemon::{Daemon, Directory};
use super::{Host, Lab, Result, http};

/// The program, and Debian's package.
pub const PROGRAM: (&str, &str) = ("nginx", "nginx");

/// Where its files are. Those called `*.server` are more of its configuration, read when it starts or reloads.
pub fn directory(lab: &Lab, host: &Host) -> Result<Directory> {
    Directory::of(lab, host, "nginx")
}

/// Starts it, a master with one worker, on all addresses of the backend.
pub fn start(lab: &Lab, host: &Host) -> Result<Daemon> {
    let directory = directory(lab, host)?;
    let path = directory.write("nginx.conf", &configuration(&host.name, &directory))?;
    let mut command = Command::new(PROGRAM.0);
    command
        .arg("-p")
        .arg(&directory.path)
        .arg("-e")
        .arg(directory.path.join("error.log"))
        .arg("-c")
        .arg(path);
    Daemon::start(host, command, &directory, http::PORT)
}

fn configuration(name: &str, directory: &Directory) -> String {
    let (port, place) = (http::PORT, directory.path.display());
    format!(
        r#"
daemon off;
user root;
worker_processes 1;
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    client_max_body_size 0;
    keepalive_timeout 600s;
    keepalive_requests 1000000;
    server {{
        listen {port};
        listen [::]:{port};
        root {place};
        add_header X-Backend {name};
        location = / {{ return 200 "{name}"; }}
        location / {{ dav_methods PUT; }}
    }}
    include {place}/*.server;
}}
"#
    )
}
