//! Words of the DNS: names, types of records and response codes, as an administrator writes them.

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use super::kind::DnsCheck;

/// Response codes by name (RFC 6895, 2.3).
const CODES: [(ResponseCode, &str); 12] = [
    (ResponseCode::NoError, "NOERROR"),
    (ResponseCode::FormErr, "FORMERR"),
    (ResponseCode::ServFail, "SERVFAIL"),
    (ResponseCode::NXDomain, "NXDOMAIN"),
    (ResponseCode::NotImp, "NOTIMP"),
    (ResponseCode::Refused, "REFUSED"),
    (ResponseCode::YXDomain, "YXDOMAIN"),
    (ResponseCode::YXRRSet, "YXRRSET"),
    (ResponseCode::NXRRSet, "NXRRSET"),
    (ResponseCode::NotAuth, "NOTAUTH"),
    (ResponseCode::NotZone, "NOTZONE"),
    (ResponseCode::BADVERS, "BADVERS"),
];

/// What is no question about a name: transfers of zones, signatures of messages.
const NO_QUESTIONS: [RecordType; 3] = [RecordType::AXFR, RecordType::IXFR, RecordType::TSIG];

impl DnsCheck {
    /// What is asked; `None` if the name or the type is none of the DNS.
    pub(crate) fn query(&self) -> Option<Query> {
        Some(Query::query(name(&self.name)?, record_type(&self.record)?))
    }
}

/// A name, always counted from the root.
pub(super) fn name(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// A type of record that may be asked for.
pub(super) fn record_type(text: &str) -> Option<RecordType> {
    let found: RecordType = text.to_ascii_uppercase().parse().ok()?;
    (!NO_QUESTIONS.contains(&found)).then_some(found)
}

/// A response code by its name.
pub(super) fn code(text: &str) -> Option<ResponseCode> {
    CODES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)).map(|(code, _)| *code)
}

/// A response code's name, `RCODE17` where it has none.
pub(crate) fn code_name(code: ResponseCode) -> String {
    let known = CODES.iter().find(|(known, _)| *known == code);
    known.map_or_else(|| format!("RCODE{}", u16::from(code)), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_types_and_codes_are_read_whatever_their_case() {
        let query = |name: &str, record: &str| {
            DnsCheck { name: name.into(), record: record.into(), ..DnsCheck::default() }.query()
        };
        let asked = query("Example.com", "aaaa").unwrap();
        assert_eq!(asked.name.to_ascii(), "Example.com.");
        assert_eq!(asked.query_type, RecordType::AAAA);
        assert_eq!(query(".", "NS").unwrap().name.to_ascii(), ".");
        for (name, record) in [("example.com", "AXFR"), ("example.com", "Q"), ("a..b", "A")] {
            assert_eq!(query(name, record), None, "{name} {record}");
        }
        assert_eq!(code("nxdomain"), Some(ResponseCode::NXDomain));
        assert_eq!(code("fine"), None);
        assert_eq!(code_name(ResponseCode::from(0, 3)), "NXDOMAIN");
        assert_eq!(code_name(ResponseCode::Unknown(3841)), "RCODE3841");
    }
}
