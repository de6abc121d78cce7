//! Texts that read as they were written, and those that are refused.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn every_time_has_a_text_that_reads_as_that_time(
        seconds in prop_oneof![any::<u64>(), 0..=LAST_SECOND, LAST_SECOND - 5..LAST_SECOND + 5],
    ) {
        let text = timestamp(seconds);
        let read = match text.strip_prefix('@') {
            Some(number) => number.parse().ok(),
            None => {
                let time = humantime::parse_rfc3339(&text).unwrap();
                time.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
            }
        };
        prop_assert_eq!(read, Some(seconds), "{}", text);
        prop_assert_eq!(text.starts_with('@'), seconds > LAST_SECOND);
    }
}

#[test]
fn service_addresses_read_as_written() {
    for text in ["10.0.0.100:80/tcp", "[2001:db8::1]:53/udp", "10.0.0.1:*/udp", "[::1]:*/tcp"] {
        let key: ServiceKey = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
    }
}

#[test]
fn wrong_service_addresses_are_refused_with_the_reason() {
    for (text, why) in [
        ("10.0.0.1:80", "no protocol"),
        ("10.0.0.1/tcp", "no port"),
        ("10.0.0.1:0/tcp", "1–65535 or *"),
        ("10.0.0.1:+80/tcp", "not a number"),
        ("10.0.0.1:65536/tcp", "1–65535 or *"),
        ("10.0.0.1:80/sctp", "neither tcp nor udp"),
        ("2001:db8::1:80/tcp", "in brackets"),
        ("[10.0.0.1]:80/tcp", "not an IP address"),
    ] {
        let error = text.parse::<ServiceKey>().unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn mac_addresses_read_as_written() {
    let mac: Mac = "02:00:0a:FF:00:01".parse().unwrap();
    assert_eq!(mac.to_string(), "02:00:0a:ff:00:01");
    for text in ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "+2:00:00:00:00:01", "2:0:0:0:0:1"] {
        assert!(text.parse::<Mac>().is_err(), "{text}");
    }
}

#[test]
fn an_address_that_is_part_of_a_network_is_not_taken_for_all_of_it() {
    for (text, same) in
        [("10.0.0.0/8", "10.0.0.0/8"), ("10.0.0.1", "10.0.0.1/32"), ("2001:db8::/32", "2001:db8::/32")]
    {
        assert_eq!(network(text).unwrap().to_string(), same);
    }
    let refused = |text: &str| network(text).unwrap_err().to_string();
    assert!(refused("10.0.0.1/8").ends_with("write 10.0.0.0/8 or 10.0.0.1"));
    assert!(refused("2001:db8::1/32").ends_with("write 2001:db8::/32 or 2001:db8::1"));
    assert!(refused("ten").contains("neither an address nor a prefix"));
}
