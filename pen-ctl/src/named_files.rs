//! Programs and files of the administrator's that a state names. A change that names one that is not there, or cannot be used,
//! is no mistake in itself (a package may bring it a moment later), but whoever made the change should know.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use rustix::fs::{Access, access};

use crate::check::{Check, Health, HttpCheck, Kind, SmtpCheck};
use crate::state::desired::{Backend, Service};

/// What is wrong with the files that these services name, one line each.
pub(crate) fn warnings(services: &[Service]) -> Vec<String> {
    let of = |service: &Service| {
        let name = service.name.clone();
        of_service(service).into_iter().map(move |warning| format!("service {name}: {warning}"))
    };
    services.iter().flat_map(of).collect()
}

/// What is wrong with the files that a service and its backends name: each once, however many backends name it.
pub(crate) fn of_service(service: &Service) -> Vec<String> {
    let program = service.on_change.first();
    let program = program.and_then(|path| trouble("on_change", path, Access::EXEC_OK));
    let checks = service.backends.iter().map(|backend| backend.health.as_ref());
    let found: BTreeSet<String> = checks.chain([service.health.as_ref()]).filter_map(of_health).collect();
    program.into_iter().chain(found).collect()
}

/// What is wrong with the file that a backend's own check names.
pub(crate) fn of_backend(backend: &Backend) -> Option<String> {
    of_health(backend.health.as_ref())
}

fn of_health(health: Option<&Health>) -> Option<String> {
    let Check { kind, .. } = health?.check()?;
    let tls = match kind {
        Kind::Exec(exec) => return trouble("health check", exec.command.first()?, Access::EXEC_OK),
        Kind::Http(HttpCheck { tls, .. }) | Kind::Smtp(SmtpCheck { starttls: tls, .. }) => tls.as_ref()?,
        Kind::Tcp | Kind::Dns(_) | Kind::Udp(_) | Kind::Icmp | Kind::Agent(_) => return None,
    };
    trouble("health check: ca", tls.ca.as_ref()?, Access::READ_OK)
}

/// Why a file cannot be used as it is meant to be.
fn trouble(what: &str, path: &str, wanted: Access) -> Option<String> {
    let why = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => "is not there".to_owned(),
        Err(error) => format!("cannot be looked at: {error}"),
        Ok(found) if !found.is_file() => "is not a file".to_owned(),
        Ok(_) => match (access(Path::new(path), wanted), wanted) {
            (Ok(()), _) => return None,
            (Err(_), Access::EXEC_OK) => "is not executable (chmod +x)".to_owned(),
            (Err(error), _) => format!("cannot be read: {}", io::Error::from(error)),
        },
    };
    Some(format!("{what}: {} {why}", path.escape_debug()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn service(text: &str) -> Service {
        let text = format!("name = 'web'\nvip = '10.0.0.100:80/tcp'\n{text}");
        toml::from_str::<crate::state::spec::ServiceSpec>(&text).unwrap().complete().unwrap()
    }

    #[test]
    fn what_is_not_there_or_no_program_is_told_until_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tell");
        let shown = path.display();
        let web = service(&format!("on_change = ['{shown}', '--loud']"));
        let told = || of_service(&web);
        assert_eq!(told(), [format!("on_change: {shown} is not there")]);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(told(), [format!("on_change: {shown} is not executable (chmod +x)")]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(told(), [] as [&str; 0]);
        let dir = service(&format!("on_change = ['{}']", dir.path().display()));
        assert!(of_service(&dir)[0].ends_with("is not a file"));
    }

    #[test]
    fn files_of_checks_are_looked_at_too_and_each_is_told_once() {
        let web = service(
            "health = { kind = 'https', ca = '/nonexistent/own.pem' }
             backend = [
                 { address = '10.0.0.11', health = { kind = 'exec', command = ['/nonexistent/check', '-a'] } },
                 { address = '10.0.0.12', health = { kind = 'exec', command = ['/nonexistent/check', '-b'] } },
                 { address = '10.0.0.13', health = { kind = 'smtp', starttls = true, ca = '/nonexistent/own.pem' } },
                 { address = '10.0.0.14', health = { kind = 'https' } },
             ]",
        );
        let (check, ca) = (
            "health check: /nonexistent/check is not there",
            "health check: ca: /nonexistent/own.pem is not there",
        );
        assert_eq!(of_service(&web), [check, ca]);
        let own: Vec<_> = web.backends.iter().map(of_backend).collect();
        assert_eq!(own, [Some(check.to_owned()), Some(check.to_owned()), Some(ca.to_owned()), None]);
        assert_eq!(warnings(&[web]), [format!("service web: {check}"), format!("service web: {ca}")]);
    }
}
