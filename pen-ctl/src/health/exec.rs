//! The check `exec`: a program says by its exit status whether a backend is well.

use super::ask::{Answer, Failed, Question};
use crate::check::ExecCheck;
use crate::dataplane::BackendAddress;
use crate::program::Program;

/// Runs the program. When this is dropped, so when its time is over, whatever is left of it is killed.
pub(super) async fn ask(question: &Question, exec: &ExecCheck) -> Result<Answer, Failed> {
    let program = Program { command: exec.command.clone(), environment: environment(question) };
    match program.run(b"").await {
        Ok(ended) => ended.failure().map_or(Ok(Answer::new("exit status 0")), |why| Err(Failed::Answer(why))),
        // That says nothing about the backend.
        Err(error) => {
            let program = exec.command.first().map(String::as_str).unwrap_or_default();
            Err(Failed::Asking(format!("{program} cannot be started: {error}")))
        }
    }
}

/// What a program is told: whom it is to look at, and for which service. A Unix socket has no port.
fn environment(question: &Question) -> Vec<(&'static str, String)> {
    let service = &question.service;
    let port = match service.port {
        0 => service.is_every_port().then(|| "*".to_owned()),
        port => Some(port.to_string()),
    };
    let (backend, backend_port) = match question.backend {
        BackendAddress::Ip(address) => (address.to_string(), port.clone()),
        BackendAddress::Port(address) => (address.ip().to_string(), Some(address.port().to_string())),
        BackendAddress::Unix(path) => (path.to_string(), None),
    };
    let told = [
        ("PEN_VIP", Some(service.address.to_string())),
        ("PEN_PORT", port),
        ("PEN_PROTOCOL", Some(service.protocol.to_string())),
        ("PEN_BACKEND", Some(backend)),
        ("PEN_BACKEND_PORT", backend_port),
    ];
    told.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

#[cfg(test)]
mod tests;
