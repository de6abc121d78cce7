//! Addresses are written and read alike everywhere, and plain IP addresses as ever.

use proptest::prelude::*;

use super::*;

#[test]
fn addresses_are_read_as_they_are_written() {
    for text in
        ["10.0.0.11", "2001:db8::11", "10.0.0.11:8080", "[2001:db8::1]:80", "/run/app.sock", "/run/ü b"]
    {
        let address: BackendAddress = text.parse().unwrap();
        assert_eq!(address.to_string(), text);
        assert_eq!(serde_json::to_string(&address).unwrap(), format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<BackendAddress>(&format!("\"{text}\"")).unwrap(), address);
    }
    let longest = format!("/{}", "a".repeat(UNIX_PATH_MAX - 1));
    assert_eq!(longest.parse::<UnixPath>().unwrap().as_path(), Path::new(&longest));
}

#[test]
fn what_is_no_address_is_refused_with_the_reason() {
    let refused = |text: &str, why: &str| {
        let error = text.parse::<BackendAddress>().unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    };
    refused("www1", "neither an IP address");
    refused("10.0.0.11:", "neither an IP address");
    refused("10.0.0.11:0", "port 0");
    refused("10.0.0.11:65536", "neither an IP address");
    refused("[fe80::1%2]:80", "zone");
    refused("run/app.sock", "neither an IP address");
    refused("./app.sock", "neither an IP address");
    refused("http://10.0.0.11:80", "neither an IP address");
    refused("10.0.0.11:80/tcp", "neither an IP address");
    refused("/run/", "ends with `/`");
    refused("/run/a\nb", "control character");
    refused("/run/a\0b", "control character");
    refused(&format!("/{}", "a".repeat(UNIX_PATH_MAX)), "longer than 103 bytes");
}

#[test]
fn a_unix_listener_is_written_as_its_path_and_is_not_on_every_port() {
    let key: ServiceKey = "/run/app.sock".parse().unwrap();
    assert_eq!(key, ServiceKey::unix("/run/app.sock".parse().unwrap()));
    assert_eq!(key.to_string(), "/run/app.sock");
    assert!(!key.is_every_port() && key.ip().is_none());
    assert!("10.0.0.1:*/tcp".parse::<ServiceKey>().unwrap().is_every_port());
    assert!("/run/".parse::<ServiceKey>().is_err());
}

#[test]
fn a_backend_without_a_port_uses_the_services() {
    let endpoint = |text: &str| text.parse::<BackendAddress>().unwrap().endpoint(80).to_string();
    assert_eq!(endpoint("10.0.0.11"), "10.0.0.11:80");
    assert_eq!(endpoint("2001:db8::1"), "[2001:db8::1]:80");
    assert_eq!(endpoint("10.0.0.11:8080"), "10.0.0.11:8080");
    assert_eq!(endpoint("/run/app.sock"), "/run/app.sock");
}

proptest! {
    /// Paths sort, and equal, as their texts do.
    #[test]
    fn paths_sort_as_their_texts(a in "/[a-c]{1,5}", b in "/[a-c]{1,5}") {
        let path = |text: &str| text.parse::<UnixPath>().unwrap();
        prop_assert_eq!(path(&a).cmp(&path(&b)), a.cmp(&b));
    }
}
