//! Web servers whose checks are answered slowly, or with a certificate that has expired, while they serve their clients.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use xtask::lab::controller::PATIENCE;
use xtask::lab::{await_that, nginx};

use crate::losses::Loss;
use crate::scene::{BACKENDS, PACE, Plane, Scene};
use crate::side::Side;
use crate::web::WEB;

/// The port that only checks come to.
const SIDE: u16 = 8080;

/// How a backend answers its checks.
#[derive(Default)]
struct Checked {
    /// After so many milliseconds.
    delay: AtomicU64,
    /// So many so far.
    answered: AtomicU64,
}

impl Checked {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        thread::sleep(Duration::from_millis(self.delay.load(Ordering::Relaxed)));
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        self.answered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn a_server_that_takes_half_the_timeout_serves_and_one_that_takes_thrice_does_not() {
    // Both are far from the timeout: this machine may be slow, too.
    let health = format!("http,port={SIDE},interval=200ms,timeout=1500ms,rise=1,fall=2,max_hold=0s");
    let checked = BACKENDS.map(|_| Arc::<Checked>::default());
    let mut sides = Vec::new();
    let scene = Scene::prepared(&WEB, Plane::Xdp, &health, |scene| {
        for (name, checked) in BACKENDS.into_iter().zip(&checked) {
            let checked = Arc::clone(checked);
            let side = Side::open(scene.host(name), SIDE, move |stream| checked.answer(stream));
            sides.push(side);
        }
    });
    let Some(mut scene) = scene else { return };
    let b2 = &checked[1];
    scene.fresh_clients();
    scene.undisturbed("b2 took half of what a check may take", |_| {
        b2.delay.store(700, Ordering::Relaxed);
        let before = b2.answered.load(Ordering::Relaxed);
        await_that("eight slow checks", PATIENCE, || {
            let answered = b2.answered.load(Ordering::Relaxed) - before;
            Ok(if answered >= 8 { Ok(()) } else { Err(answered) })
        })
        .unwrap();
    });
    let slow = |_: &mut Scene| b2.delay.store(4500, Ordering::Relaxed);
    scene.leaves("took thrice what a check may take", "b2", Loss::OnTheWay, slow);
    scene.returns("b2", |_| b2.delay.store(700, Ordering::Relaxed));
    scene.close();
}

/// The port of TLS, which only checks come to.
const TLS: u16 = 8443;
const NAME: &str = "www.lab";

/// Whose certificates are trusted.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "lab");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes the certificate of a server, good or expired, with its key, where nginx looks for it.
    fn certify(&self, scene: &Scene, name: &str, expired: bool) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        if expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let directory = nginx::directory(&scene.cluster.lab, scene.host(name)).unwrap();
        directory.write("tls.pem", &(certificate.pem() + &key.serialize_pem())).unwrap();
    }

    /// The same, and nginx takes it up.
    fn certify_anew(&self, scene: &Scene, name: &str, expired: bool) {
        self.certify(scene, name, expired);
        scene.daemon(name).reload().unwrap();
    }
}

#[test]
fn a_server_whose_certificate_has_expired_is_left_out_until_it_has_another() {
    let authority = Authority::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &authority.pem).unwrap();
    let health = format!("https,port={TLS},sni={NAME},ca={},{PACE}", file.path().display());
    let scene = Scene::prepared(&WEB, Plane::Xdp, &health, |scene| {
        BACKENDS.into_iter().for_each(|name| {
            authority.certify(scene, name, false);
            let directory = nginx::directory(&scene.cluster.lab, scene.host(name)).unwrap();
            directory.write("tls.server", &server(&directory.path.join("tls.pem"))).unwrap();
        })
    });
    let Some(mut scene) = scene else { return };
    scene.outage(
        "showed a certificate that has expired",
        "b2",
        Loss::OnTheWay,
        |scene| authority.certify_anew(scene, "b2", true),
        |scene| authority.certify_anew(scene, "b2", false),
    );
    let log = scene.log();
    assert!(log.contains("certificate expired on 2020-01-01"), "{log}");
    scene.close();
}

/// A server of nginx's that has this certificate.
fn server(certificate: &Path) -> String {
    let place = certificate.display();
    format!(
        "server {{ listen {TLS} ssl; listen [::]:{TLS} ssl; ssl_certificate {place}; ssl_certificate_key {place}; \
         return 204; }}\n"
    )
}
