//! The status page: what `pen-ctl status` shows, for a browser.

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::http::header::{HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};

use crate::api::document::StatusDocument;
use crate::cli::render::status::{View, status};

/// Nothing is loaded, run, framed or sent, whatever a value may contain; the page's own style is all there is.
const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_TYPE, "text/html; charset=utf-8"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

/// The page.
pub(super) fn page(document: &StatusDocument, view: View) -> Response {
    (HEADERS, html(document, view)).into_response()
}

fn html(document: &StatusDocument, view: View) -> String {
    let (tone, verdict) = match document.warnings.len() {
        0 => ("good", "all is well".to_owned()),
        1 => ("look", "1 thing needs a look".to_owned()),
        many => ("look", format!("{many} things need a look")),
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (host, text) = (escaped(&host), escaped(&status(document, view)));
    let at = humantime::format_rfc3339_seconds(view.now);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta http-equiv=\"refresh\" content=\"10\">\n\
         <title>{verdict}: pen on {host}</title>\n<style>\n\
         :root {{ color-scheme: light dark }}\n\
         body {{ font: 16px/1.4 system-ui, sans-serif; margin: 1.5rem }}\n\
         h1 {{ font-size: 1.4rem; padding: .5rem .8rem; border-left: .5rem solid }}\n\
         .good {{ border-color: #2a2 }} .look {{ border-color: #d40 }}\n\
         pre {{ font: 14px/1.5 ui-monospace, monospace; overflow-x: auto }}\n\
         </style>\n</head>\n<body>\n<h1 class=\"{tone}\">pen on {host}: {verdict}</h1>\n<pre>{text}</pre>\n\
         <p>As of {at}, every 10 seconds anew. For programs: <a href=\"/v1/status\">/v1/status</a> (JSON), \
         <a href=\"/metrics\">/metrics</a> (OpenMetrics).</p>\n</body>\n</html>\n"
    )
}

/// Text as HTML shows it, in an element or in a quoted attribute.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::cli::render::Style;

    fn document(warnings: &[&str]) -> StatusDocument {
        let text = serde_json::json!({
            "controller": {
                "version": "1.2.3", "pid": 7, "dataplane": "xdp", "uptime_seconds": 61, "file": "/etc/<b>.toml",
                "file_differs": false, "seed": "0000000000000001"
            },
            "interfaces": [], "services": [], "warnings": warnings,
            "packets": {"received": 0, "forwarded": 0, "answered": {}, "passed": {}, "dropped": {}},
            "tracking": {"v4": {"used": 0, "max": 1024}, "v6": {"used": 0, "max": 1024}},
        });
        serde_json::from_value(text).unwrap()
    }

    const VIEW: View = View { now: UNIX_EPOCH, style: Style { colour: false } };

    #[test]
    fn the_title_says_whether_anything_needs_a_look() {
        assert!(html(&document(&[]), VIEW).contains("<title>all is well"));
        assert!(html(&document(&["a"]), VIEW).contains("<title>1 thing needs a look"));
        assert!(html(&document(&["a", "b"]), VIEW).contains("2 things need a look</h1>"));
    }

    #[test]
    fn values_are_text_whatever_is_in_them() {
        let html = html(&document(&["<script>alert('1')</script> & \"more\""]), VIEW);
        assert!(
            html.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &quot;more&quot;"),
            "{html}"
        );
        assert!(html.contains("/etc/&lt;b&gt;.toml") && !html.contains("<script") && !html.contains("<b>"));
    }

    #[test]
    fn browsers_are_told_to_load_and_run_nothing() {
        let answer = page(&document(&[]), VIEW);
        let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
    }
}
