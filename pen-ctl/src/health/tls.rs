//! TLS (RFC 8446, 5246) to a backend: whom its certificate must be for, who must have signed it, and in words what is
//! wrong with it.
//!
//! Roots are read once for all checks that trust the same, and again a minute later: a renewed file is
//! taken up by itself. Sessions are not resumed: a backend must show its certificate each time.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, Error, InvalidMessage};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::ask::{Failed, Question};
use super::connect::Line;
use crate::check::{HttpCheck, Kind, SmtpCheck};
use crate::dataplane::VipAddress;

#[cfg(test)]
pub(super) mod tests;
mod trust;

/// Names of a certificate that a reason tells.
const NAMES_TOLD: usize = 3;

/// How a check begins TLS.
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// The file that says whom to trust.
    ca: Option<String>,
}

/// What a question needs for TLS, if it needs that: before its time runs, for certificates may have to be read.
pub(super) async fn prepare(question: &Question) -> Result<Option<Tls>, String> {
    let (check, said) = match &question.check.kind {
        Kind::Http(http @ HttpCheck { tls: Some(tls), .. }) => (tls, http.server_name()),
        Kind::Smtp(SmtpCheck { starttls: Some(tls), .. }) => (tls, tls.sni.as_deref()),
        _ => return Ok(None),
    };
    let name = name(said, question)?;
    let config = trust::config(check, Instant::now()).await?;
    Ok(Some(Tls { config, name, ca: check.ca.clone() }))
}

/// Whom the certificate must be for.
fn name(said: Option<&str>, question: &Question) -> Result<ServerName<'static>, String> {
    let name = match (said, question.service.address) {
        (Some(name), _) => name,
        (None, VipAddress::Ip(ip)) => return Ok(ServerName::from(ip)),
        (None, VipAddress::Unix(_)) => "localhost",
    };
    ServerName::try_from(name.to_owned())
        .map_err(|_| format!("`{name}` is not a name that a certificate can be for"))
}

impl Tls {
    /// Begins TLS on a connection.
    pub(super) async fn begin(&self, line: Box<dyn Line>) -> Result<Box<dyn Line>, Failed> {
        let connector = TlsConnector::from(self.config.clone());
        match connector.connect(self.name.clone(), line).await {
            Ok(line) => Ok(Box::new(line)),
            Err(error) => Err(match of_tls(&error) {
                Some(error) => Failed::Answer(reason(error, self.ca.as_deref())),
                None => Failed::answer(&error),
            }),
        }
    }
}

/// What went wrong with TLS after it had begun, or with what carries it.
pub(super) fn failed(error: &io::Error) -> Failed {
    of_tls(error).map_or_else(|| Failed::answer(error), |error| Failed::Answer(reason(error, None)))
}

/// Whether it is TLS's own error.
pub(super) fn is_of_tls(error: &io::Error) -> bool {
    of_tls(error).is_some()
}

fn of_tls(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

fn reason(error: &Error, ca: Option<&str>) -> String {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error, ca),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "TLS: what came is not TLS".into(),
        Error::AlertReceived(alert) => format!("TLS: refused by the backend: {alert:?}"),
        error => format!("TLS: {error}"),
    }
}

fn of_certificate(error: &CertificateError, ca: Option<&str>) -> String {
    let ca = ca.unwrap_or("…");
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("certificate expired on {}", day(not_after.as_secs()))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("certificate is not valid before {}", day(not_before.as_secs()))
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("certificate is for {}, not {}", names(presented), expected.to_str())
        }
        CertificateError::UnknownIssuer => {
            format!("certificate: signed by nobody trusted here (ca = {ca} says whom)")
        }
        // Signed by a namesake of one that is trusted: an authority that was made anew.
        CertificateError::BadSignature => {
            format!(
                "certificate: its signature does not fit the authority trusted here (ca = {ca} says whom)"
            )
        }
        // webpki's own word, that rustls hands on.
        error if error.to_string().contains("CaUsedAsEndEntity") => {
            "certificate is one of an authority (CA:TRUE), not a server's".into()
        }
        error => format!("certificate: {error}"),
    }
}

/// A day in UTC, as `2026-01-01`.
fn day(seconds: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let text = time.map(|time| humantime::format_rfc3339_seconds(time).to_string()).unwrap_or_default();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// The names in a certificate, from how webpki writes them: `DnsName("www.example.com")`, `IpAddress(192.0.2.1)`.
fn names(presented: &[String]) -> String {
    let all = presented.iter().filter_map(|name| {
        let (kind, name) = name.strip_suffix(')')?.split_once('(')?;
        let is_a_servers = ["DnsName", "IpAddress"].contains(&kind);
        is_a_servers.then(|| name.trim_matches('"').escape_debug().to_string())
    });
    let all: Vec<String> = all.collect();
    match all.get(..NAMES_TOLD) {
        _ if all.is_empty() => "no name (subjectAltName)".into(),
        Some(some) if all.len() > NAMES_TOLD => format!("{} …", some.join(", ")),
        _ => all.join(", "),
    }
}
