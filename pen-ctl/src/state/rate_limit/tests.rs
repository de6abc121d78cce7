//! What a rate limit says, and what it cannot say.

use super::*;

fn limit(text: &str) -> RateLimit {
    toml::from_str::<std::collections::BTreeMap<String, RateLimit>>(&format!("it = {text}")).unwrap()["it"]
}

#[track_caller]
fn refused(text: &str, why: &str) {
    let error = text.parse::<RateLimit>().unwrap_err().to_string();
    assert!(error.contains(why) && !error.contains('\n'), "{error}");
}

#[test]
fn what_is_left_out_is_one_seconds_worth_of_each_ipv4_address_and_each_ipv6_network() {
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    assert_eq!(
        limit("{ packets = 10000 }"),
        RateLimit { packets: rate(10_000, 10_000), flows: None, prefix_v4: 32, prefix_v6: 64 }
    );
    let all =
        "{ packets = 1, flows = 2, packets_burst = 3, flows_burst = 4, prefix_v4 = 0, prefix_v6 = 128 }";
    assert_eq!(
        limit(all),
        RateLimit { packets: rate(1, 3), flows: rate(2, 4), prefix_v4: 0, prefix_v6: 128 }
    );
}

#[test]
fn both_forms_say_the_same_and_are_read_as_they_are_written() {
    let short = "packets=10000,flows=100,packets_burst=20000,prefix_v4=24";
    let read: RateLimit = short.parse().unwrap();
    assert_eq!(read.to_string(), short);
    assert_eq!(limit(&format!("'{short}'")), read);
    let json = serde_json::to_string(&read).unwrap();
    assert_eq!(json, r#"{"packets":10000,"flows":100,"packets_burst":20000,"prefix_v4":24}"#);
    assert_eq!(serde_json::from_str::<RateLimit>(&json).unwrap(), read);
}

#[test]
fn a_limit_without_a_rate_or_out_of_range_is_refused() {
    refused("", "limits nobody; give `packets` or `flows`");
    refused("prefix_v4=24", "limits nobody");
    refused("flows=1,packets_burst=5", "give `packets`, too");
    refused("packets=1,flows_burst=5", "give `flows`, too");
    for (text, range) in [
        ("packets=0", "1 to 10000000"),
        ("flows=10000001", "1 to 10000000"),
        ("packets=1,packets_burst=0", "1 to 10000000"),
        ("flows=1,flows_burst=10000001", "1 to 10000000"),
        ("packets=1,prefix_v4=33", "0 to 32"),
        ("packets=1,prefix_v6=129", "0 to 128"),
        ("packets=18446744073709551615", "packets 18446744073709551615 is out of range; use 1 to 10000000"),
        ("flows=1,packets_burst=99999999999999999999", "packets_burst 99999999999999999999 is out of range"),
        ("packets=1,prefix_v6=99999999999999999999", "0 to 128"),
        ("packets=-1", "packets -1 is out of range; use 1 to 10000000"),
        ("packets=0", "`none` on the command line"),
        ("", "`--rate-limit none`"),
    ] {
        refused(text, range);
    }
    refused("packets", "is not key=value");
    refused("packets=many", "is not a number");
    refused("packets=-", "is not a number");
    refused("packets=", "is not a number");
    refused("packets=5 flows=3", "`packets=5 flows=3` is more than one key; separate them by commas");
    refused("packets=5;flows=3", "separate them by commas");
    refused("packets=1,packets=2", "said twice");
    refused("speed=1", "known are packets, flows");
}
