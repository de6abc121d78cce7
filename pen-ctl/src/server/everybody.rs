//! What is left out of documents that are shown to everybody, over TCP: the seed, and clients' addresses.

use crate::api::Reply;
use crate::api::document::ServiceDocument;

/// Leaves it out.
pub(super) fn censor(reply: &mut Reply) {
    match reply {
        Reply::Status(document) => {
            document.controller.seed = None;
            document.services.iter_mut().for_each(censor_service);
        }
        Reply::Services(list) => list.services.iter_mut().for_each(censor_service),
        Reply::Service(service) => censor_service(service),
        _ => {}
    }
}

fn censor_service(service: &mut ServiceDocument) {
    service.refused = service.refused.map(|refused| refused.without_clients());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::document::ServiceList;

    #[test]
    fn nobody_learns_clients_addresses() {
        let service: ServiceDocument = serde_json::from_value(serde_json::json!({
            "name": "web", "vip": "10.0.0.100:80/tcp", "affinity": "client", "scheduler": "maglev",
            "tracking": "full", "tracking_timeout": "0s", "transition": "10m", "on_empty": "drop",
            "health": {"kind": "none"}, "backends": [], "packets": 0, "bytes": 0,
            "refused": {"denied": {"packets": 7, "last": "192.0.2.7", "seconds_ago": 1},
                        "rate_limited": {"packets": 7, "last": "192.0.2.7", "seconds_ago": 1}},
        }))
        .unwrap();
        let replies = [
            Reply::Service(Box::new(service.clone())),
            Reply::Services(ServiceList { services: vec![service] }),
        ];
        for mut reply in replies {
            censor(&mut reply);
            let text = format!("{reply:?}");
            assert!(!text.contains("192.0.2.7") && text.contains("packets: 7"), "{text}");
        }
    }
}
