//! HTTPS checks against servers whose certificates are right or wrong.

use std::io::Write;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{HandshakeKind, ServerConfig};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::check::TlsCheck;
use crate::health::ask::ask;
use crate::health::testing::staged::{self, Server, Step, accepted, asked, hear, say, service};

/// An authority, whose certificate is in a file.
pub(in crate::health) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: NamedTempFile,
}

impl Authority {
    pub(in crate::health) fn new() -> Authority {
        Self::called("authority")
    }

    fn called(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(params.self_signed(&key).unwrap().pem().as_bytes()).unwrap();
        Authority { issuer: Issuer::new(params, key), file }
    }

    /// Its file.
    pub(in crate::health) fn file(&self) -> &str {
        self.file.path().to_str().unwrap()
    }

    /// A server's side of TLS, with a certificate for these names.
    pub(in crate::health) fn server(&self, names: &[&str]) -> Step {
        Step::Tls(self.acceptor(names, |_| {}))
    }

    fn acceptor(&self, names: &[&str], change: impl Fn(&mut CertificateParams)) -> TlsAcceptor {
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::new(names).unwrap());
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        acceptor(certificate.der().clone(), &key)
    }

    async fn https(&self, names: &[&str], change: impl Fn(&mut CertificateParams)) -> Server {
        https(self.acceptor(names, change)).await
    }
}

fn acceptor(certificate: rustls::pki_types::CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivatePkcs8KeyDer::from(key.serialize_der()).into());
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

async fn https(acceptor: TlsAcceptor) -> Server {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
    Server::start(vec![Step::Tls(acceptor), hear("\r\n\r\n"), say(answer)]).await
}

const NAME: &str = "www.example.com";

#[tokio::test]
async fn a_good_certificate_is_for_the_name_asked_for_or_for_the_service() {
    let authority = Authority::new();
    let ca = format!("ca={}", authority.file());
    let named = authority.https(&[NAME], |_| {}).await;
    for name in ["sni=www.example.com", "host=www.example.com:8443", "sni=www.example.com,host=x"] {
        assert_eq!(asked(&named, &format!("https,body=fine,{name},{ca}")).await.unwrap(), "HTTP 200");
    }
    let other = format!("https,sni=other.example.com,{ca}");
    assert_eq!(
        asked(&named, &other).await.unwrap_err(),
        "certificate is for www.example.com, not other.example.com"
    );
    assert_eq!(
        asked(&named, &format!("https,{ca}")).await.unwrap_err(),
        "certificate is for www.example.com, not 10.0.0.100"
    );
    let addressed = authority.https(&["10.0.0.100", "192.0.2.1"], |_| {}).await;
    assert_eq!(asked(&addressed, &format!("https,{ca}")).await.unwrap(), "HTTP 200");
    assert_eq!(
        asked(&addressed, &other).await.unwrap_err(),
        "certificate is for 10.0.0.100, 192.0.2.1, not other.example.com"
    );
    let nameless = authority.https(&[], |_| {}).await;
    assert_eq!(
        asked(&nameless, &other).await.unwrap_err(),
        "certificate is for no name (subjectAltName), not other.example.com"
    );
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_told_with_the_day() {
    let authority = Authority::new();
    let check = format!("https,sni={NAME},ca={}", authority.file());
    let expired = authority.https(&[NAME], |params| params.not_after = date_time_ymd(2020, 1, 31)).await;
    assert_eq!(asked(&expired, &check).await.unwrap_err(), "certificate expired on 2020-01-31");
    let early = authority.https(&[NAME], |params| params.not_before = date_time_ymd(3000, 2, 1)).await;
    assert_eq!(asked(&early, &check).await.unwrap_err(), "certificate is not valid before 3000-02-01");
    let lax = "https,verify=false";
    assert_eq!(asked(&expired, lax).await.unwrap(), "HTTP 200");
    assert_eq!(asked(&early, lax).await.unwrap(), "HTTP 200");
}

#[tokio::test]
async fn a_certificate_must_be_signed_by_somebody_trusted() {
    let (authority, other, namesake) = (Authority::new(), Authority::called("other"), Authority::new());
    let server = authority.https(&[NAME], |_| {}).await;
    assert_eq!(
        asked(&server, &format!("https,sni={NAME},ca={}", other.file())).await.unwrap_err(),
        format!("certificate: signed by nobody trusted here (ca = {} says whom)", other.file())
    );
    let file = namesake.file();
    assert_eq!(
        asked(&server, &format!("https,sni={NAME},ca={file}")).await.unwrap_err(),
        format!("certificate: its signature does not fit the authority trusted here (ca = {file} says whom)")
    );
    assert_eq!(asked(&server, "https,verify=false").await.unwrap(), "HTTP 200");
    let by_system = asked(&server, &format!("https,sni={NAME}")).await.unwrap_err();
    // A host without roots says so, and nothing about the backend.
    let has_roots = !by_system.starts_with("not checked: this host has no certificates");
    let expected = "certificate: signed by nobody trusted here (ca = … says whom)";
    assert!(by_system == expected || !has_roots, "{by_system}");
}

#[tokio::test]
async fn a_certificate_that_signs_itself_may_be_its_own_authority_unless_it_is_marked_as_one() {
    let server = async |is_ca: IsCa| {
        let (key, mut params) =
            (KeyPair::generate().unwrap(), CertificateParams::new([NAME.into()]).unwrap());
        params.is_ca = is_ca;
        let certificate = params.self_signed(&key).unwrap();
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(certificate.pem().as_bytes()).unwrap();
        let server = https(acceptor(certificate.der().clone(), &key)).await;
        asked(&server, &format!("https,sni={NAME},ca={}", file.path().display())).await
    };
    assert_eq!(server(IsCa::NoCa).await.unwrap(), "HTTP 200");
    assert_eq!(
        server(IsCa::Ca(BasicConstraints::Unconstrained)).await.unwrap_err(),
        "certificate is one of an authority (CA:TRUE), not a server's"
    );
}

#[tokio::test]
async fn roots_that_cannot_be_read_say_nothing_about_the_backend() {
    let server = Authority::new().https(&[NAME], |_| {}).await;
    let told = async |ca: &str| asked(&server, &format!("https,ca={ca}")).await.unwrap_err();
    assert_eq!(
        told("/nowhere.pem").await,
        "not checked: /nowhere.pem: No such file or directory (os error 2)"
    );
    assert_eq!(told("/dev/zero").await, "not checked: /dev/zero: is not a file");
    let mut file = NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    assert_eq!(told(&path).await, format!("not checked: {path}: holds no certificate (PEM)"));
    file.write_all(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let why = told(&path).await;
    assert!(why.starts_with(&format!("not checked: {path}: certificate 1: ")), "{why}");
}

#[tokio::test]
async fn a_renewed_file_of_roots_is_taken_up_within_a_minute() {
    let (authority, other) = (Authority::new(), Authority::new());
    let check = TlsCheck { ca: Some(authority.file().into()), ..TlsCheck::default() };
    let now = Instant::now();
    let first = trust::config(&check, now).await.unwrap();
    std::fs::copy(other.file(), authority.file()).unwrap();
    let after = async |seconds| trust::config(&check, now + Duration::from_secs(seconds)).await.unwrap();
    assert!(Arc::ptr_eq(&first, &after(59).await), "read anew each time");
    assert!(!Arc::ptr_eq(&first, &after(60).await));
}

#[tokio::test]
async fn what_is_not_tls_is_said_to_be_none() {
    let server = Server::start(vec![say("HTTP/1.1 400 Bad Request\r\n\r\n"), Step::Stay]).await;
    assert_eq!(asked(&server, "https,verify=false").await.unwrap_err(), "TLS: what came is not TLS");
    let closes = Server::start(vec![]).await;
    let why = asked(&closes, "https,verify=false").await.unwrap_err();
    assert!(["connection closed before an answer was whole", "connection reset"].contains(&&*why), "{why}");
    let silent = Server::start(vec![Step::Stay]).await;
    assert_eq!(asked(&silent, "https,timeout=200ms").await.unwrap_err(), "no answer within 200 ms");
}

#[tokio::test]
async fn a_certificate_is_seen_at_every_check() {
    let acceptor = Authority::new().acceptor(&[NAME], |_| {});
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = listener.local_addr().unwrap().into();
    let question = staged::question(service(), backend, "https,verify=false,timeout=20s");
    let server = async || {
        let mut stream = acceptor.accept(accepted(&listener).await).await.unwrap();
        let mut request = [0; 1024];
        assert_ne!(stream.read(&mut request).await.unwrap(), 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
        stream.get_ref().1.handshake_kind().unwrap()
    };
    for _ in 0..2 {
        assert_eq!(tokio::join!(server(), ask(&question)).0, HandshakeKind::Full, "a session was resumed");
    }
}

#[tokio::test]
async fn a_name_is_asked_for_an_address_is_not() {
    let acceptor = Authority::new().acceptor(&[NAME], |_| {});
    let asked_for = async |health: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = listener.local_addr().unwrap().into();
        let question = staged::question(service(), backend, &format!("{health},timeout=20s"));
        let server = async {
            let stream = acceptor.accept(accepted(&listener).await).await.unwrap();
            stream.get_ref().1.server_name().map(str::to_owned)
        };
        tokio::join!(server, ask(&question)).0
    };
    assert_eq!(asked_for("https,verify=false,sni=www.example.com").await.as_deref(), Some(NAME));
    assert_eq!(asked_for("https,verify=false").await, None);
}
