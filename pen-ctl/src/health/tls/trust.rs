//! Whom checks trust: roots of the system or of a file, read once for all checks and again when they are old.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::time::Instant;

use crate::check::TlsCheck;

/// How long what was read is used before it is read again.
const FRESH: Duration = Duration::from_secs(60);
/// Bytes of a file of certificates: all of the system's are a quarter of one MiB.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// Everybody.
    All,
    /// Whom this system trusts.
    System,
    /// Whom a file names.
    File(String),
}

/// What was made of that, and when.
type Made = Arc<tokio::sync::Mutex<Option<(Arc<ClientConfig>, Instant)>>>;

/// What is in use, shared by all checks: thousands of backends may be checked with the same roots.
static IN_USE: Mutex<BTreeMap<Trust, Made>> = Mutex::new(BTreeMap::new());

/// The configuration for a check at that time, or in words why there is none.
pub(super) async fn config(check: &TlsCheck, now: Instant) -> Result<Arc<ClientConfig>, String> {
    let trust = match (check.verify, &check.ca) {
        (false, _) => Trust::All,
        (true, None) => Trust::System,
        (true, Some(file)) => Trust::File(file.clone()),
    };
    let place = place(&trust, now);
    // Whoever comes while it is read waits here, instead of reading it, too.
    let mut made = place.lock().await;
    if let Some((config, _)) = made.as_ref().filter(|(_, at)| now.duration_since(*at) < FRESH) {
        return Ok(config.clone());
    }
    let config = tokio::task::spawn_blocking(move || build(&trust)).await;
    let config = config.map_err(|error| error.to_string()).and_then(|config| config)?;
    *made = Some((config.clone(), now));
    Ok(config)
}

/// Where it is kept; what nobody has used for long is forgotten.
fn place(trust: &Trust, now: Instant) -> Made {
    let mut all = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|other, made| other == trust || Arc::strong_count(made) > 1 || is_fresh(made, now));
    all.entry(trust.clone()).or_default().clone()
}

fn is_fresh(made: &Made, now: Instant) -> bool {
    // Whoever holds the lock is about to make it anew.
    made.try_lock()
        .map_or(true, |made| made.as_ref().is_some_and(|(_, at)| now.duration_since(*at) < 2 * FRESH))
}

fn build(trust: &Trust) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match trust {
        Trust::All => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody { algorithms })),
        Trust::System => builder.with_root_certificates(of_system()?),
        Trust::File(path) => {
            builder.with_root_certificates(of_file(Path::new(path)).map_err(|why| format!("{path}: {why}"))?)
        }
    };
    let mut config = builder.with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The system's roots; those among them that make no sense are the system's business.
fn of_system() -> Result<RootCertStore, String> {
    let read = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read.certs);
    if roots.is_empty() {
        let why = read.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!("this host has no certificates of authorities{why}; install them or set `ca`"));
    }
    Ok(roots)
}

/// The roots in a file, every one of which must make sense.
fn of_file(path: &Path) -> Result<RootCertStore, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    if !file.metadata().is_ok_and(|about| about.is_file()) {
        return Err("is not a file".into());
    }
    let mut text = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut text).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for (certificate, number) in CertificateDer::pem_slice_iter(&text).zip(1..) {
        let wrong = |error: &dyn std::fmt::Display| format!("certificate {number}: {error}");
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() { Err("holds no certificate (PEM)".into()) } else { Ok(roots) }
}

/// Takes every certificate, but not one whose key the backend does not have.
#[derive(Debug)]
struct Anybody {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unless_forged(crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unless_forged(crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A certificate of a form too old to be read (X.509 v1) has a signature that nobody can check: it is taken, too.
fn unless_forged(checked: Result<HandshakeSignatureValid, Error>) -> Result<HandshakeSignatureValid, Error> {
    match checked {
        Err(Error::InvalidCertificate(error)) if error != CertificateError::BadSignature => {
            Ok(HandshakeSignatureValid::assertion())
        }
        checked => checked,
    }
}
