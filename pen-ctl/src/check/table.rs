//! How checks are written: a table with the key `kind`, or the short form `KIND,key=value…`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::kind::{
    AgentCheck, DnsCheck, ExecCheck, HttpCheck, Kind, SmtpCheck, TlsCheck, Transport, UdpCheck,
};
use super::{Check, Health, Pace, Way};
use crate::state::text::{self, TextError};

/// Kinds of checks.
const KINDS: &str = "none, tcp, http, https, dns, smtp, udp, icmp, exec or agent";
/// Keys of every kind but `none`: its pace, and the way it takes.
const PACE: [&str; 7] = ["interval", "timeout", "rise", "fall", "jitter", "max_hold", "way"];
/// Keys whose values are numbers, and the largest of them.
const NUMBERS: [(&str, u64, u64); 4] =
    [("port", 1, 65_535), ("rise", 1, 100), ("fall", 1, 100), ("jitter", 0, 50)];

/// All keys.
pub(crate) const KEYS: &[&str] = &[
    "kind",
    "port",
    "interval",
    "timeout",
    "rise",
    "fall",
    "jitter",
    "max_hold",
    "way",
    "method",
    "path",
    "host",
    "status",
    "body",
    "verify",
    "sni",
    "ca",
    "name",
    "type",
    "rcode",
    "answer",
    "transport",
    "helo",
    "starttls",
    "send",
    "expect",
    "command",
];

/// The keys that a kind takes besides its [`PACE`].
fn own_keys(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "tcp" => &["port"],
        "http" => &["port", "method", "path", "host", "status", "body"],
        "https" => &["port", "method", "path", "host", "status", "body", "verify", "sni", "ca"],
        "dns" => &["port", "name", "type", "rcode", "answer", "transport"],
        "smtp" => &["port", "helo", "starttls", "verify", "sni", "ca"],
        "udp" => &["port", "send", "expect"],
        "icmp" => &[],
        "exec" => &["command"],
        "agent" => &["port", "send"],
        _ => return None,
    })
}

/// All keys of all kinds, as far as they are said.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default, deserialize_with = "known_kind")]
    kind: String,
    #[serde(default, deserialize_with = "text::number::port", skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    way: Option<Way>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(default, deserialize_with = "statuses", skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    starttls: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verify: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sni: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    record: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rcode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transport: Option<Transport>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    helo: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    send: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expect: Option<String>,
    #[serde(default, deserialize_with = "text::command", skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    #[serde(default, with = "text::optional_duration", skip_serializing_if = "Option::is_none")]
    interval: Option<Duration>,
    #[serde(default, with = "text::optional_duration", skip_serializing_if = "Option::is_none")]
    timeout: Option<Duration>,
    #[serde(default, deserialize_with = "text::number::times", skip_serializing_if = "Option::is_none")]
    rise: Option<u32>,
    #[serde(default, deserialize_with = "text::number::times", skip_serializing_if = "Option::is_none")]
    fall: Option<u32>,
    #[serde(default, deserialize_with = "text::number::jitter", skip_serializing_if = "Option::is_none")]
    jitter: Option<u8>,
    #[serde(default, with = "text::optional_duration", skip_serializing_if = "Option::is_none")]
    max_hold: Option<Duration>,
}

impl Table {
    fn health(mut self) -> Result<Health, TextError> {
        if self.kind.is_empty() {
            return Err(TextError(format!(
                "a health check needs a kind; write kind = \"tcp\", or another of {KINDS}"
            )));
        }
        self.read_way_written_as_path()?;
        self.refuse_foreign_keys()?;
        let Some(kind) = self.kind()? else { return Ok(Health::None) };
        Ok(Health::Checked(Box::new(Check { kind, port: self.port, way: self.way, pace: self.pace() })))
    }

    /// A path of HTTP begins with a slash, so that `path = "dsr"` can only mean the way.
    fn read_way_written_as_path(&mut self) -> Result<(), TextError> {
        let Some(way) = self.path.as_deref().and_then(way_of) else { return Ok(()) };
        if self.way.replace(way).is_some_and(|said| said != way) {
            let why = "two different ways are one too many; leave one of them out";
            return Err(TextError(format!("health check `{}`: {why}", self.kind)));
        }
        self.path = None;
        Ok(())
    }

    fn refuse_foreign_keys(&self) -> Result<(), TextError> {
        let Ok(Value::Object(said)) = serde_json::to_value(self) else { return Ok(()) };
        said.keys().filter(|key| *key != "kind").try_for_each(|key| takes(&self.kind, key))
    }

    fn kind(&self) -> Result<Option<Kind>, TextError> {
        let parsed = |text: &Option<String>| text.as_deref().map(str::parse).transpose();
        Ok(Some(match self.kind.as_str() {
            "tcp" => Kind::Tcp,
            "http" => Kind::Http(self.http(None)?),
            "https" => Kind::Http(self.http(Some(self.tls()))?),
            "dns" => Kind::Dns(self.dns()),
            "smtp" => Kind::Smtp(self.smtp()?),
            "udp" => Kind::Udp(UdpCheck { send: parsed(&self.send)?, expect: parsed(&self.expect)? }),
            "icmp" => Kind::Icmp,
            "exec" => Kind::Exec(ExecCheck { command: self.command.clone().unwrap_or_default() }),
            "agent" => Kind::Agent(AgentCheck { send: parsed(&self.send)? }),
            _ => return Ok(None),
        }))
    }

    fn http(&self, tls: Option<TlsCheck>) -> Result<HttpCheck, TextError> {
        let default = HttpCheck::default();
        Ok(HttpCheck {
            tls,
            method: self.method.clone().unwrap_or(default.method),
            path: self.path.clone().unwrap_or(default.path),
            host: self.host.clone(),
            status: self.status.as_deref().map_or(Ok(default.status), str::parse)?,
            body: self.body.clone(),
        })
    }

    fn tls(&self) -> TlsCheck {
        TlsCheck {
            verify: self.verify.unwrap_or(TlsCheck::default().verify),
            sni: self.sni.clone(),
            ca: self.ca.clone(),
        }
    }

    fn dns(&self) -> DnsCheck {
        let default = DnsCheck::default();
        DnsCheck {
            name: self.name.clone().unwrap_or(default.name),
            record: self.record.clone().unwrap_or(default.record),
            rcode: self.rcode.clone(),
            answer: self.answer.clone(),
            transport: self.transport,
        }
    }

    fn smtp(&self) -> Result<SmtpCheck, TextError> {
        let starttls = self.starttls.unwrap_or(false);
        if !starttls && (self.verify.is_some() || self.sni.is_some() || self.ca.is_some()) {
            return Err(TextError(
                "health check `smtp` takes verify, sni and ca for TLS only; write starttls = true as well"
                    .into(),
            ));
        }
        Ok(SmtpCheck { helo: self.helo.clone(), starttls: starttls.then(|| self.tls()) })
    }

    fn pace(&self) -> Pace {
        let default = Pace::default();
        let interval = self.interval.unwrap_or(default.interval);
        Pace {
            interval,
            timeout: self.timeout.unwrap_or(default.timeout.min(interval)),
            rise: self.rise.unwrap_or(default.rise),
            fall: self.fall.unwrap_or(default.fall),
            jitter: self.jitter.unwrap_or(default.jitter),
            max_hold: self.max_hold.unwrap_or(default.max_hold),
        }
    }

    /// The keys of one kind.
    fn of(kind: &Kind) -> Table {
        let text = |payload: &super::Payload| payload.to_string();
        let plain = Table { kind: kind.name().into(), ..Table::default() };
        match kind.clone() {
            Kind::Tcp | Kind::Icmp => plain,
            Kind::Http(HttpCheck { tls, method, path, host, status, body }) => Table {
                method: Some(method),
                path: Some(path),
                host,
                status: Some(status.to_string()),
                body,
                ..plain.with_tls(tls)
            },
            Kind::Dns(DnsCheck { name, record, rcode, answer, transport }) => {
                Table { name: Some(name), record: Some(record), rcode, answer, transport, ..plain }
            }
            Kind::Smtp(SmtpCheck { helo, starttls }) => {
                Table { helo, starttls: Some(starttls.is_some()), ..plain.with_tls(starttls) }
            }
            Kind::Udp(UdpCheck { send, expect }) => {
                Table { send: send.as_ref().map(text), expect: expect.as_ref().map(text), ..plain }
            }
            Kind::Exec(ExecCheck { command }) => Table { command: Some(command), ..plain },
            Kind::Agent(AgentCheck { send }) => Table { send: send.as_ref().map(text), ..plain },
        }
    }

    fn with_tls(self, tls: Option<TlsCheck>) -> Table {
        match tls {
            Some(TlsCheck { verify, sni, ca }) => Table { verify: Some(verify), sni, ca, ..self },
            None => self,
        }
    }
}

/// One status may be written as the number that it is.
fn statuses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Statuses;
    impl Visitor<'_> for Statuses {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a status such as 200, or several as \"200-399\" or \"200 204\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }
    deserializer.deserialize_any(Statuses).map(Some)
}

/// The way that a word names.
fn way_of(word: &str) -> Option<Way> {
    match word {
        "dsr" => Some(Way::Dsr),
        "direct" => Some(Way::Direct),
        _ => None,
    }
}

/// A key that its kind does not take would be without effect.
fn takes(kind: &str, key: &str) -> Result<(), TextError> {
    let own = own_keys(kind).unwrap_or_default();
    if kind == "none" {
        return Err(TextError("health check `none` takes no other keys; leave them out".into()));
    }
    if own.contains(&key) || PACE.contains(&key) {
        return Ok(());
    }
    let keys = [own, &PACE].concat().join(", ");
    Err(TextError(format!("health check `{kind}` takes no key `{key}`; it takes {keys}")))
}

impl From<&Health> for Table {
    /// Every key of the pace, for their defaults depend on each other; those that came later only where they say
    /// something, so that an older pen can read the rest.
    fn from(health: &Health) -> Self {
        let Some(Check { kind, port, way, pace }) = health.check() else {
            return Table { kind: "none".into(), ..Table::default() };
        };
        let default = Pace::default();
        Table {
            port: *port,
            way: *way,
            interval: Some(pace.interval),
            timeout: Some(pace.timeout),
            rise: Some(pace.rise),
            fall: Some(pace.fall),
            jitter: (pace.jitter != default.jitter).then_some(pace.jitter),
            max_hold: (pace.max_hold != default.max_hold).then_some(pace.max_hold),
            ..Table::of(kind)
        }
    }
}

impl FromStr for Health {
    type Err = TextError;

    /// Reads the short form: `KIND[,key=value…]`.
    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = |why: String| TextError(format!("health check `{text}`: {why}"));
        let mut parts = text.split(',').map(str::trim);
        let mut table = Map::new();
        let kind = check_kind(parts.next().unwrap_or_default())?;
        table.insert("kind".into(), kind.clone().into());
        for part in parts {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| wrong(format!("`{part}` is not key=value, as in tcp,interval=2s")))?;
            let key = if key == "path" && way_of(value).is_some() { "way" } else { key };
            takes(&kind, key)?;
            let value = value_of(key, value).map_err(wrong)?;
            let before = table.insert(key.to_owned(), value.clone());
            match before {
                Some(before) if key == "way" && before == value => {}
                Some(_) if key == "way" => {
                    return Err(wrong("two different ways are one too many; leave one of them out".into()));
                }
                Some(_) => return Err(wrong(format!("`{key}` is said twice; leave one of them out"))),
                None => {}
            }
        }
        let table: Table = serde_json::from_value(table.into()).map_err(|error| wrong(error.to_string()))?;
        table.health()
    }
}

/// What a word after `key=` says.
fn value_of(key: &str, word: &str) -> Result<Value, String> {
    if let Some((_, least, most)) = NUMBERS.iter().find(|(number, ..)| *number == key) {
        let number = word.parse().ok().filter(|number| (least..=most).contains(&number));
        return number
            .map(|number: u64| number.into())
            .ok_or_else(|| format!("{key} must be a number from {least} to {most}"));
    }
    match (key, word) {
        ("starttls" | "verify", "true") => Ok(true.into()),
        ("starttls" | "verify", "false") => Ok(false.into()),
        ("starttls" | "verify", _) => Err(format!("{key} must be true or false")),
        _ => Ok(word.into()),
    }
}

impl Serialize for Health {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Table::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Health {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Health;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", \"tcp\" or a table such as { kind = \"tcp\", interval = \"1s\" }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Health, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Health, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map))?.health().map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn known_kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text::parsed(deserializer, "a kind of check such as \"tcp\"", check_kind)
}

fn check_kind(kind: &str) -> Result<String, TextError> {
    match kind == "none" || own_keys(kind).is_some() {
        true => Ok(kind.to_owned()),
        false if ["default", "service"].contains(&kind) => Err(TextError(format!(
            "unknown health check `{kind}`; for the usual one leave `health` out (on the command line it is `default` of a \
             service, `service` of a backend)"
        ))),
        false => Err(TextError(format!("unknown health check `{kind}`; use {KINDS}"))),
    }
}

#[cfg(test)]
mod tests;
