//! What a check must obey, whatever the form it was written in.

use std::ops::RangeInclusive;
use std::time::Duration;

use hyper::Uri;
use rustls::pki_types::ServerName;

use super::kind::{DnsCheck, ExecCheck, HttpCheck, Kind, TlsCheck};
use super::{Check, Pace, Way, dns as words};

/// Times of a check.
const TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// How long a backend may be held down at most.
const MAX_HOLD: Duration = Duration::from_secs(24 * 3600);
/// Octets of a name in the DNS, as text (RFC 1035, 2.3.4).
const NAME_MAX: usize = 254;

/// Why a check cannot be, and what to do; `every_port`: of a service that has no port of its own.
pub fn check(check: &Check, every_port: bool) -> Result<(), (String, &'static str)> {
    let refuse = |why: &str, hint| Err((why.to_owned(), hint));
    match check.port {
        None if every_port && check.kind.has_port() => {
            return refuse("an every-port service has no port to check", "say which, as tcp,port=80");
        }
        None if matches!(check.kind, Kind::Agent(_)) => {
            return refuse("an agent listens on a port of its own", "say which, as agent,port=9000");
        }
        Some(0) => return refuse("port 0 cannot be", "use 1 to 65535"),
        _ => {}
    }
    if check.way == Some(Way::Dsr) && !check.kind.can_ask_the_vip() {
        return refuse("way = dsr is for checks that ask the service itself", "leave `way` out");
    }
    pace(&check.pace)?;
    kind(&check.kind)
}

fn kind(kind: &Kind) -> Result<(), (String, &'static str)> {
    let refuse = |why: &str, hint| Err((why.to_owned(), hint));
    match kind {
        Kind::Http(http) => of_http(http),
        Kind::Dns(dns) => of_dns(dns),
        Kind::Smtp(smtp) => match &smtp.helo {
            Some(name) if !is_word(name) => refuse("helo is not a name", "write a host name"),
            _ => smtp.starttls.as_ref().map_or(Ok(()), of_tls),
        },
        Kind::Exec(ExecCheck { command }) => match command.first() {
            None => refuse("there is no command", "write command = [\"/usr/local/bin/check\", \"-x\"]"),
            Some(program) if !program.starts_with('/') => {
                refuse("the program is not named by its whole path", "write it as /usr/local/bin/check")
            }
            Some(_) => Ok(()),
        },
        Kind::Tcp | Kind::Udp(_) | Kind::Icmp | Kind::Agent(_) => Ok(()),
    }
}

fn pace(pace: &Pace) -> Result<(), (String, &'static str)> {
    for (key, value) in [("interval", pace.interval), ("timeout", pace.timeout)] {
        if !TIMES.contains(&value) {
            let value = humantime::format_duration(value);
            return Err((format!("{key} = {value} is out of range"), "use 10ms to 1h"));
        }
    }
    for (key, value) in [("rise", pace.rise), ("fall", pace.fall)] {
        if !(1..=100).contains(&value) {
            return Err((format!("{key} = {value} is out of range"), "use 1 to 100"));
        }
    }
    match pace.max_hold > MAX_HOLD {
        true => Err((
            format!("max_hold = {} is out of range", humantime::format_duration(pace.max_hold)),
            "use at most 1day; 0 = never held down",
        )),
        false => Ok(()),
    }
}

fn of_http(http: &HttpCheck) -> Result<(), (String, &'static str)> {
    let refuse = |why: String, hint| Err((why, hint));
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase());
    let HttpCheck { tls, method, path, host, body, .. } = http;
    if !is_token(method) {
        return refuse(format!("`{method}` is not a method of HTTP"), "use GET or HEAD");
    }
    match method.as_str() {
        "CONNECT" => return refuse("CONNECT asks for no path".into(), "use GET or HEAD"),
        "HEAD" if body.is_some() => {
            return refuse("the answer to HEAD has no body".into(), "use GET, or leave `body` out");
        }
        _ if body.as_ref().is_some_and(String::is_empty) => {
            return refuse(
                "body is empty, which every answer holds".into(),
                "write a text, or leave `body` out",
            );
        }
        _ => {}
    }
    // What stands behind `#` is not sent.
    let is_path = |path: &str| path.parse::<Uri>().is_ok() && !path.contains('#');
    if !path.starts_with('/') || !is_word(path) || !is_path(path) {
        return refuse(format!("path `{path}` is not one"), "write it as /healthz");
    }
    if let Some(host) = host.as_ref().filter(|host| !is_word(host)) {
        return refuse(format!("host `{host}` is not one"), "write it as www.example.com");
    }
    let name = http.server_name().filter(|_| tls.is_some());
    match (tls, name.filter(|name| ServerName::try_from(*name).is_err())) {
        (Some(TlsCheck { sni: None, .. }), Some(name)) => {
            refuse(format!("`{name}` is not a name that a certificate can be for"), "set `sni`, too")
        }
        _ => tls.as_ref().map_or(Ok(()), of_tls),
    }
}

fn of_tls(tls: &TlsCheck) -> Result<(), (String, &'static str)> {
    match (&tls.sni, &tls.ca) {
        (Some(name), _) if ServerName::try_from(name.as_str()).is_err() => {
            Err((format!("sni `{name}` is not a name"), "write it as www.example.com"))
        }
        (_, Some(ca)) if !ca.starts_with('/') => {
            Err((format!("ca `{ca}` is not a whole path"), "write it as /etc/ssl/own.pem"))
        }
        (_, Some(_)) if !tls.verify => Err((
            "ca says whom to trust, and verify = false trusts everybody".into(),
            "leave one of them out",
        )),
        _ => Ok(()),
    }
}

fn of_dns(dns: &DnsCheck) -> Result<(), (String, &'static str)> {
    let mut labels = dns.name.trim_end_matches('.').split('.');
    let good = dns.name == "." || labels.all(|label| (1..=63).contains(&label.len()));
    let good = good && words::name(&dns.name).is_some();
    if !good || dns.name.len() > NAME_MAX || !is_word(&dns.name) {
        return Err((format!("`{}` is not a name of the DNS", dns.name), "write it as example.com"));
    }
    if words::record_type(&dns.record).is_none() {
        return Err((
            format!("`{}` is not a type of record to ask for", dns.record),
            "use A, AAAA, NS, SOA or another of the DNS",
        ));
    }
    if let Some(code) = dns.rcode.as_ref().filter(|code| words::code(code).is_none()) {
        return Err((
            format!("`{code}` is not a response code"),
            "use NOERROR, NXDOMAIN or another of the DNS",
        ));
    }
    Ok(())
}

/// Nothing that would end a line or split a word where it is sent.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
