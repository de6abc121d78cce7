//! Clients, and which backends they were given.

use super::status::View;
use super::table::{Cell, Table};
use super::{Tone, number, plural, span};
use crate::api::document::clients::{
    ClientDocument, ClientList, ClientOfService, ClientShow, ClientStatus, DecidedBy, ForgetDocument,
};

/// Clients, one a line, and how many there are.
pub fn list(list: &ClientList, view: View) -> String {
    let mut text = String::new();
    if !list.clients.is_empty() {
        text.push_str(&table(&list.clients, 0, view));
    }
    let shown = list.clients.len() as u64;
    text.push_str(&match list.total {
        0 => "no clients".to_owned(),
        total if shown < total => format!("{} of {} clients shown", number(shown), number(total)),
        total => plural(total, "client"),
    });
    let hidden = if list.clients.iter().any(|one| !counts(one.status)) { 0 } else { list.stale };
    if hidden > 0 {
        text.push_str(&format!("; {} that do not count any more are left out (--all)", number(hidden)));
    }
    text.push('\n');
    text
}

/// All that is known of one client.
pub fn one(client: &ClientShow, view: View) -> String {
    let mut next = Table::new(&["SERVICE", "VIP", "NEXT PACKET GOES TO", "BECAUSE"]);
    for service in &client.services {
        let why = because(service);
        let ClientOfService { service, vip, backend, .. } = service;
        let backend = backend.map_or_else(|| "-".to_owned(), |backend| backend.to_string());
        next.row(vec![Cell::new(service), Cell::new(vip.to_string()), Cell::new(backend), why]);
    }
    let mut text = match client.services.is_empty() {
        true => format!("no service has a VIP of the family of {}\n", client.address),
        false => next.render(0, view.style),
    };
    if client.remembered.is_empty() {
        text.push_str("\nnothing is remembered of it\n");
        return text;
    }
    text.push_str(&view.heading("Remembered"));
    text.push_str(&table(&client.remembered, 2, view));
    let shown = client.remembered.len() as u64;
    if shown < client.total {
        text.push_str(&format!("  the latest {} of {}\n", number(shown), number(client.total)));
    }
    text
}

/// Why a client's next packet goes there, or nowhere.
fn because(service: &ClientOfService) -> Cell {
    let prefix = service.access.and_then(|access| access.prefix);
    let why = match service.by {
        DecidedBy::Access => match prefix {
            Some(prefix) => return Cell::new(format!("refused: in deny {prefix}")).tone(Tone::Bad),
            None => return Cell::new("refused: in no prefix of allow").tone(Tone::Bad),
        },
        DecidedBy::Memory => "remembered",
        DecidedBy::Slot => "newcomer: by its slot",
        DecidedBy::Flow => "each flow goes by itself",
        DecidedBy::Turn => "newcomer: whose turn it is",
        DecidedBy::Connections => "newcomer: who has the fewest connections",
        DecidedBy::Nobody => "nobody serves",
    };
    let cell = match prefix {
        Some(prefix) => Cell::new(format!("{why}; in allow {prefix}")),
        None => Cell::new(why),
    };
    match service.by {
        DecidedBy::Memory => cell.tone(Tone::Good),
        DecidedBy::Nobody => cell.tone(Tone::Bad),
        _ => cell,
    }
}

/// What forgetting came to, in a line.
pub fn forgotten(done: &ForgetDocument) -> String {
    let stale = match done.stale {
        0 => String::new(),
        stale => format!(", {} of which did not count any more", number(stale)),
    };
    let more =
        if done.goes_on { " so far; it goes on, and `pen-ctl events` tells when it is done" } else { "" };
    format!("{} forgotten{stale}{more}", plural(done.forgotten, "client"))
}

fn table(clients: &[ClientDocument], indent: usize, view: View) -> String {
    let flows = clients.iter().any(|one| one.port.is_some());
    // Columns that are empty are left out, headings and all.
    let (port, to) = if flows { (">PORT", ">TO PORT") } else { ("", "") };
    let stale = if clients.iter().all(|one| one.status == ClientStatus::Tracked) { "" } else { "COUNTS" };
    let mut table = Table::new(&["CLIENT", port, to, "SERVICE", "BACKEND", ">SEEN", stale]);
    for one in clients {
        let port = |port: Option<u16>| Cell::number(port.map_or_else(String::new, |port| port.to_string()));
        let gone = || "(removed)".to_owned();
        let why = match one.status {
            ClientStatus::Tracked if stale.is_empty() => Cell::new(""),
            ClientStatus::Tracked => Cell::new("yes").tone(Tone::Good),
            ClientStatus::BackendDown => Cell::new("once its backend is up").tone(Tone::Attention),
            ClientStatus::TimedOut => Cell::new("no: timed out").tone(Tone::Faint),
            ClientStatus::NotAsked => Cell::new("no: its service remembers otherwise").tone(Tone::Faint),
            ClientStatus::BackendRemoved => Cell::new("no: its backend was removed").tone(Tone::Faint),
            ClientStatus::ServiceRemoved => Cell::new("no: its service was removed").tone(Tone::Faint),
        };
        table.row(vec![
            Cell::new(one.address.to_string()),
            port(one.port),
            port(one.service_port),
            Cell::new(one.service.clone().unwrap_or_else(gone)),
            Cell::new(one.backend.map_or_else(gone, |backend| backend.to_string())),
            Cell::number(format!("{} ago", span(one.idle_seconds))),
            why,
        ]);
    }
    table.render(indent, view.style)
}

fn counts(status: ClientStatus) -> bool {
    matches!(status, ClientStatus::Tracked | ClientStatus::BackendDown)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::cli::render::Style;
    use crate::dataplane::Admission;

    fn view() -> View {
        View { now: SystemTime::UNIX_EPOCH, style: Style { colour: false } }
    }

    fn client(n: u8, status: ClientStatus) -> ClientDocument {
        let removed = status == ClientStatus::BackendRemoved;
        ClientDocument {
            address: [192, 0, 2, n].into(),
            port: None,
            service_port: None,
            service: Some("web".into()),
            backend: (!removed).then(|| [10, 0, 0, 11].into()),
            last_seen: "2026-01-01T12:00:00Z".into(),
            idle_seconds: u64::from(n) * 60,
            status,
        }
    }

    #[test]
    fn a_list_says_how_many_there_are_and_how_many_it_leaves_out() {
        let clients = vec![client(1, ClientStatus::Tracked), client(2, ClientStatus::Tracked)];
        let shown = list(&ClientList { clients, total: 1_234_567, stale: 12 }, view());
        let expected = "\
CLIENT     SERVICE  BACKEND         SEEN
192.0.2.1  web      10.0.0.11  1m 0s ago
192.0.2.2  web      10.0.0.11  2m 0s ago
2 of 1 234 567 clients shown; 12 that do not count any more are left out (--all)
";
        assert_eq!(shown, expected);
        assert_eq!(list(&ClientList::default(), view()), "no clients\n");
    }

    #[test]
    fn flows_have_ports_and_what_does_not_count_says_why() {
        let flow =
            ClientDocument { port: Some(40_000), service_port: Some(80), ..client(1, ClientStatus::Tracked) };
        let clients = vec![flow, client(2, ClientStatus::BackendRemoved)];
        let shown = list(&ClientList { clients, total: 2, stale: 1 }, view());
        assert!(shown.contains("40000       80  web      10.0.0.11  1m 0s ago  yes"), "{shown}");
        assert!(shown.contains("(removed)") && shown.contains("no: its backend was removed"), "{shown}");
        assert!(shown.ends_with("\n2 clients\n"), "{shown}");
    }

    #[test]
    fn one_client_says_where_its_packets_go_and_why() {
        let of = |service: &str, vip: &str, backend: Option<[u8; 4]>, by| ClientOfService {
            service: service.into(),
            vip: vip.parse().unwrap(),
            backend: backend.map(Into::into),
            by,
            access: None,
        };
        let client = ClientShow {
            address: [192, 0, 2, 1].into(),
            services: vec![
                of("web", "10.0.0.100:80/tcp", Some([10, 0, 0, 11]), DecidedBy::Memory),
                of("dns", "10.0.0.100:53/udp", None, DecidedBy::Nobody),
            ],
            remembered: vec![client(1, ClientStatus::Tracked)],
            total: 1,
        };
        let shown = one(&client, view());
        assert!(shown.contains("web      10.0.0.100:80/tcp  10.0.0.11            remembered"), "{shown}");
        assert!(shown.contains("dns      10.0.0.100:53/udp  -                    nobody serves"), "{shown}");
        assert!(shown.contains("\nRemembered\n  CLIENT"), "{shown}");
    }

    #[test]
    fn a_client_that_is_refused_reads_by_which_list_and_one_that_is_let_in_too() {
        let of = |by, admitted, prefix: Option<&str>| {
            let access = Some(Admission { admitted, prefix: prefix.map(|text| text.parse().unwrap()) });
            let vip = "10.0.0.100:80/tcp".parse().unwrap();
            let service = ClientOfService { service: "web".into(), vip, backend: None, by, access };
            let address = [192, 0, 2, 1].into();
            one(&ClientShow { address, services: vec![service], remembered: vec![], total: 0 }, view())
        };
        for (by, admitted, prefix, told) in [
            (
                DecidedBy::Access,
                false,
                Some("192.0.2.0/24"),
                "  -                    refused: in deny 192.0.2.0/24\n",
            ),
            (DecidedBy::Access, false, None, "refused: in no prefix of allow\n"),
            (DecidedBy::Memory, true, Some("192.0.2.1/32"), "remembered; in allow 192.0.2.1/32\n"),
            (DecidedBy::Slot, true, None, "newcomer: by its slot\n"),
        ] {
            let shown = of(by, admitted, prefix);
            assert!(shown.contains(told), "{shown}");
        }
    }

    #[test]
    fn forgetting_says_how_many() {
        let told = |forgotten, stale| super::forgotten(&ForgetDocument { forgotten, stale, goes_on: false });
        assert_eq!(told(1, 0), "1 client forgotten");
        assert_eq!(told(1500, 2), "1 500 clients forgotten, 2 of which did not count any more");
        let going_on = forgotten(&ForgetDocument { forgotten: 7, stale: 0, goes_on: true });
        assert!(going_on.starts_with("7 clients forgotten so far; it goes on"), "{going_on}");
    }
}
