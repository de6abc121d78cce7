//! Every golden frame comes to its verdict and its bytes.

use super::*;
use crate::host::golden;

#[test]
fn golden_frames_come_to_what_they_should() {
    let tables = world();
    let wrong: Vec<String> = golden::frames().iter().filter_map(|case| case.check(&tables).err()).collect();
    assert!(wrong.is_empty(), "{} of them: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
}

#[test]
fn golden_frames_have_names_of_their_own() {
    let all = golden::frames();
    let mut names = std::collections::BTreeSet::new();
    let twice: Vec<_> = all.iter().map(|case| &case.name).filter(|name| !names.insert(*name)).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// Of a frame whose first buffer ends anywhere within its headers nothing is guessed, changed or dropped.
#[test]
fn headers_beyond_the_first_buffer_are_left_to_the_local_stack() {
    for bytes in [
        tcp4(&link(&[]), VIP4, port::WEB),
        tcp6(&link(&[]), VIP6, port::WEB),
        tcp4(&link(&[6, 5]), VIP4, port::DOUBLE_VLAN),
    ] {
        let headers = bytes.len() - b"hello".len();
        for first in 0..headers {
            let mut frame = crate::host::SplitFrame { frame: Frame(bytes.clone()), first };
            let verdict = crate::pipeline::run(&mut frame, world_once(), INGRESS);
            assert_eq!(verdict, Verdict::Passed(Pass::SplitHeaders), "{first} of {headers} bytes");
            assert_eq!(frame.frame.0, bytes);
        }
        let mut frame = crate::host::SplitFrame { frame: Frame(bytes.clone()), first: headers };
        let verdict = crate::pipeline::run(&mut frame, world_once(), INGRESS);
        assert!(matches!(verdict, Verdict::Forwarded { .. }), "{verdict:?}");
    }
}
