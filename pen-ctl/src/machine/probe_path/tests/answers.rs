//! Whose answers count.

use super::*;

#[test]
fn an_answer_from_another_backends_mac_does_not_count() {
    if !can_run() {
        return;
    }
    let net = Net::new();
    net.in_balancer(async || {
        let mut programs = Programs::load().unwrap();
        let (vip, own) = (IpAddr::from([10, 9, 9, 100]), IpAddr::from([10, 9, 0, 1]));
        let alias = pen_common::probe::alias(vip, 1);
        programs.lead(alias, vip, BACKEND).unwrap();
        let question = frame([0; 6], own, alias, (5000, 53));
        let asked = programs.run("pen_probe_out", &question);
        assert_eq!(asked[..6], BACKEND.0);
        assert_eq!(asked[22], 1, "one hop");
        assert_eq!(asked[30..34], [10, 9, 9, 100]);
        assert!(is_sound(&asked), "{asked:x?}");

        let answer = frame(BACKEND.0, vip, own, (53, 5000));
        let heard = programs.run("pen_probe_in", &answer);
        assert_eq!(IpAddr::from(<[u8; 4]>::try_from(&heard[26..30]).unwrap()), alias);
        assert!(is_sound(&heard), "{heard:x?}");
        for other in [
            frame([2, 0, 0, 0, 9, 3], vip, own, (53, 5000)),
            frame(BACKEND.0, vip, own, (53, 5001)),
            frame(BACKEND.0, vip, own, (54, 5000)),
            frame(BACKEND.0, vip, [10, 9, 0, 7].into(), (53, 5000)),
            frame(BACKEND.0, [10, 9, 9, 101].into(), own, (53, 5000)),
        ] {
            assert_eq!(programs.run("pen_probe_in", &other), other);
        }
    });
}

/// A UDP datagram from that MAC with a right IPv4 header.
fn frame(from_mac: [u8; 6], from: IpAddr, to: IpAddr, (source, destination): (u16, u16)) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(_) => panic!("{address}"),
    };
    let mut ip = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0];
    ip.extend(octets(from));
    ip.extend(octets(to));
    let checksum = !sum(&ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    ip.extend([source.to_be_bytes(), destination.to_be_bytes(), 16_u16.to_be_bytes(), [0; 2]].concat());
    ip.extend([7; 8]);
    [&[2, 0, 0, 0, 9, 1][..], &from_mac, &[8, 0], &ip].concat()
}

fn is_sound(frame: &[u8]) -> bool {
    sum(&frame[14..34]) == 0xffff
}

impl Programs {
    /// What becomes of a frame.
    fn run(&mut self, name: &str, frame: &[u8]) -> Vec<u8> {
        let mut out = vec![0; frame.len()];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = self.classifier(name).test_run(options).unwrap();
        assert_eq!(result.return_value as i32, -1, "{name} decides for others");
        out
    }
}
