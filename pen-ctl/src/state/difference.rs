//! What is other in one desired state than in another: for dry runs, for the history, for whoever applies a file.
//!
//! Compared is what the state's JSON says, key by key, so that a key which is added to the state is never left out.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::desired::{Backend, Desired, InterfaceSpec, Service};
use crate::dataplane::Prefixes;

/// Prefixes of a list that are told one by one.
const LISTED_PREFIXES: usize = 4;

/// One thing that is other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What became of it.
    pub what: Became,
    /// What it is.
    pub kind: Kind,
    /// The service that a backend, or an order of backends, belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The name of an interface or service, the address of a backend; empty for settings and orders.
    pub name: String,
    /// The keys that are other; of what was added, those that say something of their own.
    pub keys: Vec<KeyChange>,
}

/// What became of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// It was not there.
    Added,
    /// It is no longer there.
    Removed,
    /// Keys of it are other.
    Changed,
    /// The same ones in another order.
    Reordered,
}

/// What can be other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What concerns everything, such as `seed`.
    Settings,
    /// An interface.
    Interface,
    /// A service.
    Service,
    /// A backend.
    Backend,
}

/// A key that is other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// Which.
    pub key: String,
    /// What it said; null = nothing. Of a list of prefixes that is too long to read, how many there are, in words.
    pub old: Value,
    /// What it says; null = nothing. As `old`, with how many came and went.
    pub new: Value,
}

/// All that is other in `new` than in `old`, interfaces first, each service followed by its backends.
pub fn between(old: &Desired, new: &Desired) -> Vec<Difference> {
    let mut all = Vec::new();
    let keys = changes(settings(old), settings(new));
    if !keys.is_empty() {
        all.push(Difference {
            what: Became::Changed,
            kind: Kind::Settings,
            service: None,
            name: String::new(),
            keys,
        });
    }
    all.extend(parts(None, &old.interfaces, &new.interfaces));
    all.extend(parts(None, &old.services, &new.services));
    all
}

/// The keys of what concerns everything.
fn settings(of: &Desired) -> Map<String, Value> {
    let bare = Desired { interfaces: Vec::new(), services: Vec::new(), ..of.clone() };
    let mut keys = keys(&bare, &["interfaces", "services"]);
    // Left out of the stored state at its default, but no file is without it.
    keys.insert("flood_inserts_per_cpu".to_owned(), of.flood_inserts_per_cpu.into());
    keys
}

/// Something that has a name and keys and comes in lists.
trait Part: Serialize + PartialEq + Clone {
    const KIND: Kind;
    /// Keys that are not compared: the name, and what is compared by itself.
    const APART: &'static [&'static str];
    fn name(&self) -> String;
    /// The same with nothing but what it must have said of it.
    fn plain(&self) -> Self;
    /// The same without its parts and lists, which are many and compared by themselves.
    fn bare(&self) -> Self {
        self.clone()
    }
    /// Its lists, by their keys.
    fn lists(&self) -> Vec<(&'static str, &Prefixes)> {
        Vec::new()
    }
    /// What is other in the parts of it.
    fn within(old: Option<&Self>, new: Option<&Self>) -> Vec<Difference>;
}

impl Part for InterfaceSpec {
    const KIND: Kind = Kind::Interface;
    const APART: &'static [&'static str] = &["name"];
    fn name(&self) -> String {
        self.name.clone()
    }
    fn plain(&self) -> Self {
        Self::new(self.name.clone())
    }
    fn within(_: Option<&Self>, _: Option<&Self>) -> Vec<Difference> {
        Vec::new()
    }
}

impl Part for Service {
    const KIND: Kind = Kind::Service;
    const APART: &'static [&'static str] = &["name", "backends"];
    fn name(&self) -> String {
        self.name.clone()
    }
    fn plain(&self) -> Self {
        Self::new(self.name.clone(), self.vip)
    }
    fn bare(&self) -> Self {
        Self { backends: Vec::new(), allow: Prefixes::default(), deny: Prefixes::default(), ..self.clone() }
    }
    fn lists(&self) -> Vec<(&'static str, &Prefixes)> {
        vec![("allow", &self.allow), ("deny", &self.deny)]
    }
    fn within(old: Option<&Self>, new: Option<&Self>) -> Vec<Difference> {
        let backends = |service: Option<&Self>| service.map(|service| service.backends.clone());
        // With a service its backends go, too: that needs no words.
        let Some(service) = new else { return Vec::new() };
        parts(Some(&service.name), &backends(old).unwrap_or_default(), &service.backends)
    }
}

impl Part for Backend {
    const KIND: Kind = Kind::Backend;
    const APART: &'static [&'static str] = &["address"];
    fn name(&self) -> String {
        self.address.to_string()
    }
    fn plain(&self) -> Self {
        Self::new(self.address)
    }
    fn within(_: Option<&Self>, _: Option<&Self>) -> Vec<Difference> {
        Vec::new()
    }
}

fn parts<P: Part>(service: Option<&str>, old: &[P], new: &[P]) -> Vec<Difference> {
    let difference = |what, name: String, keys| Difference {
        what,
        kind: P::KIND,
        service: service.map(str::to_owned),
        name,
        keys,
    };
    let by_name = |all: &[P]| -> BTreeMap<String, usize> {
        all.iter().enumerate().map(|(index, one)| (one.name(), index)).collect()
    };
    let (olds, news) = (by_name(old), by_name(new));
    let mut all = Vec::new();
    for gone in old.iter().filter(|one| !news.contains_key(&one.name())) {
        all.push(difference(Became::Removed, gone.name(), Vec::new()));
    }
    for one in new {
        let before = olds.get(&one.name()).map(|index| &old[*index]);
        match before {
            // Of a thousand backends most are as they were.
            Some(before) if before == one => continue,
            None => {
                let mut said = changes_of(&one.plain(), one);
                said.iter_mut().for_each(|key| key.old = Value::Null);
                if let Some(vip) = keys(&one.bare(), P::APART).remove("vip") {
                    said.insert(0, KeyChange { key: "vip".into(), old: Value::Null, new: vip });
                }
                all.push(difference(Became::Added, one.name(), said));
            }
            Some(before) => {
                let changed = changes_of(before, one);
                if !changed.is_empty() {
                    all.push(difference(Became::Changed, one.name(), changed));
                }
            }
        }
        all.extend(P::within(before, Some(one)));
    }
    let kept = |from: &[P], other: &BTreeMap<String, usize>| -> Vec<String> {
        from.iter().map(Part::name).filter(|name| other.contains_key(name)).collect()
    };
    if kept(old, &news) != kept(new, &olds) {
        all.push(difference(Became::Reordered, String::new(), Vec::new()));
    }
    all
}

fn keys(of: &impl Serialize, apart: &[&str]) -> Map<String, Value> {
    // Strings, numbers and lists: cannot fail, and is an object.
    let Ok(Value::Object(mut keys)) = serde_json::to_value(of) else { return Map::new() };
    keys.retain(|key, _| !apart.contains(&key.as_str()));
    keys
}

/// The keys of something that are other.
fn changes_of<P: Part>(old: &P, new: &P) -> Vec<KeyChange> {
    let [mut olds, mut news] = [old, new].map(|one| keys(&one.bare(), P::APART));
    for ((key, before), (_, after)) in old.lists().into_iter().zip(new.lists()) {
        if before != after {
            let [before, after] = told(before, after);
            olds.insert(key.to_owned(), before);
            news.insert(key.to_owned(), after);
        }
    }
    changes(olds, news)
}

fn changes(mut old: Map<String, Value>, new: Map<String, Value>) -> Vec<KeyChange> {
    let mut all = Vec::new();
    for (key, new) in new {
        let old = old.remove(&key).unwrap_or_default();
        if old != new {
            all.push(KeyChange { key, old, new });
        }
    }
    all.extend(old.into_iter().map(|(key, old)| KeyChange { key, old, new: Value::Null }));
    all.retain(|change| change.old != change.new);
    all
}

/// Two lists that differ, as they are told: all of them, or how many there are, and how many came and went.
fn told(old: &Prefixes, new: &Prefixes) -> [Value; 2] {
    if old.len().max(new.len()) <= LISTED_PREFIXES {
        // Strings: cannot fail.
        return [old, new].map(|list| match list.is_empty() {
            true => Value::Null,
            false => serde_json::to_value(list).unwrap_or_default(),
        });
    }
    let counted = |list: &Prefixes| match list.len() {
        0 => None,
        1 => Some("1 prefix".to_owned()),
        many => Some(format!("{many} prefixes")),
    };
    let common = old.common(new).count();
    let (came, went) = (new.len() - common, old.len() - common);
    let after = match counted(new) {
        Some(count) if !old.is_empty() => Some(format!("{count} ({came} added, {went} removed)")),
        count => count,
    };
    [counted(old), after].map(Value::from)
}

impl fmt::Display for Difference {
    /// One line: `service web: transition 10m → 5m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.what, &self.service) {
            (Kind::Settings, ..) => f.write_str("settings")?,
            (kind, Became::Reordered, None) => write!(f, "{}s: in another order", kind.word())?,
            (kind, Became::Reordered, Some(service)) => {
                write!(f, "{}s of service {service}: in another order", kind.word())?;
            }
            (kind, _, None) => write!(f, "{} {}", kind.word(), self.name)?,
            (kind, _, Some(service)) => write!(f, "{} {} of service {service}", kind.word(), self.name)?,
        }
        for (index, change) in self.keys.iter().enumerate() {
            f.write_str(if index == 0 { ": " } else { ", " })?;
            match self.what {
                Became::Added => write!(f, "{} {}", change.key, shown(&change.new))?,
                _ => write!(f, "{} {} → {}", change.key, shown(&change.old), shown(&change.new))?,
            }
        }
        Ok(())
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Settings => "setting",
            Self::Interface => "interface",
            Self::Service => "service",
            Self::Backend => "backend",
        }
    }
}

/// A value as people write it: a table in the short form that flags have, nothing as `unset`.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "unset".into(),
        Value::String(text) => text.clone(),
        Value::Object(table) => {
            let kind = table.get("kind").map(shown);
            let rest = table.iter().filter(|(key, _)| key.as_str() != "kind");
            kind.into_iter()
                .chain(rest.map(|(key, value)| format!("{key}={}", shown(value))))
                .collect::<Vec<_>>()
                .join(",")
        }
        other => other.to_string(),
    }
}

/// Differences in a few words: `service web changed; 3 backends added`.
pub fn summary(all: &[Difference]) -> String {
    const LISTED: usize = 2;
    let mut groups: Vec<(Kind, Became, Vec<&Difference>)> = Vec::new();
    for one in all {
        match groups.iter_mut().find(|(kind, what, _)| (*kind, *what) == (one.kind, one.what)) {
            Some((_, _, members)) => members.push(one),
            None => groups.push((one.kind, one.what, vec![one])),
        }
    }
    let words = groups.iter().map(|(kind, what, members)| {
        let became = match what {
            Became::Added => "added",
            Became::Removed => "removed",
            Became::Changed => "changed",
            Became::Reordered => "reordered",
        };
        match (kind, what) {
            (Kind::Settings, _) => {
                let keys: Vec<&str> = members[0].keys.iter().map(|change| change.key.as_str()).collect();
                format!("{} {became}", keys.join(", "))
            }
            (_, Became::Reordered) => format!("{}s {became}", kind.word()),
            _ if members.len() <= LISTED => {
                let names: Vec<&str> = members.iter().map(|one| one.name.as_str()).collect();
                format!("{} {} {became}", kind.word(), names.join(", "))
            }
            _ => format!("{} {}s {became}", members.len(), kind.word()),
        }
    });
    match all.is_empty() {
        true => "nothing changed".into(),
        false => words.collect::<Vec<_>>().join("; "),
    }
}

#[cfg(test)]
mod tests;
