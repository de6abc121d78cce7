//! What may be asked over TCP: to look, and that by nobody's web page but ours.
//!
//! A browser on a machine that reaches us can be made to ask us by any page it shows. Its `Origin` then says which
//! page. A page whose own name was made to point at our address (DNS rebinding) is of one origin with us, but its
//! browser names that name in `Host`: only names that no stranger can make point anywhere are answered.

use axum::extract::Request;
use axum::http::header::{ALLOW, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::message::Failure;
use crate::api::{ApiError, ErrorCode};

/// Passes on requests that only look, to a host that is ours, from no foreign page.
pub(super) async fn only(request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let error = denied(
            format!(
                "{} cannot be asked over TCP: everybody may look, nobody may change anything",
                request.method()
            ),
            "use pen-ctl, or the Unix socket, on the balancer itself",
        );
        let mut answer = Failure { status: StatusCode::METHOD_NOT_ALLOWED, error }.into_response();
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match host(&request).and_then(|host| origin(&request, host.as_deref())) {
        Ok(()) => next.run(request).await,
        Err(error) => Failure::from(error).into_response(),
    }
}

/// The host that is asked, if it is one of ours. HTTP/1.0 need not name any; no browser speaks that.
fn host(request: &Request) -> Result<Option<String>, ApiError> {
    let named: Vec<_> = request.headers().get_all(HOST).iter().collect();
    let header = match named.as_slice() {
        [] if request.version() < Version::HTTP_11 => None,
        [one] => Some(one.to_str().map_err(|_| foreign("…"))?),
        _ => return Err(ApiError::invalid("the request does not name one Host", "send one Host header")),
    };
    let in_target = request.uri().authority().map(Authority::as_str);
    for name in [header, in_target].into_iter().flatten() {
        if !name.parse::<Authority>().is_ok_and(|authority| ours(&authority)) {
            return Err(foreign(name));
        }
    }
    Ok(header.map(str::to_owned))
}

/// Whether no stranger can make this name point at us: an IP address is no name at all, `localhost` is fixed (RFC
/// 6761, section 6.3), and the machine's own name is its administrator's.
fn ours(authority: &Authority) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let own = rustix::system::uname();
    address.parse::<std::net::IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || own.nodename().to_str().is_ok_and(|own| host.eq_ignore_ascii_case(own))
}

/// Refuses what a page of another origin asks.
fn origin(request: &Request, host: Option<&str>) -> Result<(), ApiError> {
    for origin in request.headers().get_all(ORIGIN) {
        let own = host.is_some_and(|host| origin.as_bytes() == format!("http://{host}").as_bytes());
        if !own {
            let origin = String::from_utf8_lossy(origin.as_bytes());
            return Err(denied(
                format!("pages of {} may not ask here", origin.escape_debug()),
                "open pen's own address in the browser",
            ));
        }
    }
    Ok(())
}

fn foreign(host: &str) -> ApiError {
    denied(
        format!("Host {} is not this machine", host.escape_debug()),
        "ask by IP address, as localhost, or by the machine's own name (`hostname`)",
    )
}

fn denied(message: String, hint: &str) -> ApiError {
    ApiError::new(ErrorCode::Denied, message, hint)
}
