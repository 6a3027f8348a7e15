//! `overspill ship` as its users run it: real processes, killed at random moments, compared line by line.
//!
//! `OVERSPILL_KILL_ROUNDS` sets the number of kills (5 by default).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends at its first surprise"
)]

mod http;
mod kills;
mod processes;
mod receipts;

use processes::{Place, figure, free_address, until};
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;

#[test]
fn a_sigterm_during_an_outage_saves_and_exits_with_success() {
    let place = Place::new();
    let (log, tcp) = (place.file("in"), format!("tcp:{}", free_address()));
    place.write(0..2000);
    let stats = place.text("stats");
    let options = [
        "--framing",
        "ack",
        "--drain",
        "100ms",
        "--stats-file",
        &stats,
    ];
    let ship = place.ship("spool", &log, &tcp, &options);
    until("all lines accepted", || {
        figure(&stats, "accepted") == Some(2001)
    });
    let message = ship.stop();
    assert!(message.contains("lines wait in"), "{message}");

    let out = place.file("out");
    let ship = place.ship("spool", &log, &out, &[]);
    until("every line", || place.lines("out") >= 2000);
    drop(ship);
    place.assert_same("in", "out");
}

#[test]
fn stdin_goes_to_stdout_and_its_end_is_the_end() {
    let place = Place::new();
    let mut ship = place.ship("spool", "-", "-", &[]);
    let mut stdin = ship.0.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\nthree").unwrap();
    drop(stdin);
    let (ended_well, output, message) = ship.end();
    assert!(ended_well, "{message}");
    assert_eq!(output, "one\ntwo\nthree\n");
    assert!(message.contains("nothing waits"), "{message}");
}

#[test]
fn plain_lines_of_several_connections_arrive() {
    let place = Place::new();
    let (address, out) = (free_address(), place.file("out"));
    let ship = place.ship("spool", &format!("tcp:{address}"), &out, &[]);
    for text in ["a1\na2\n", "b1\nb2"] {
        let mut connection = None;
        until("the listener", || {
            connection = TcpStream::connect(&address).ok();
            connection.is_some()
        });
        connection.unwrap().write_all(text.as_bytes()).unwrap();
    }
    until("four lines", || place.lines("out") >= 4);
    ship.stop();
    let text = fs::read_to_string(place.path("out")).unwrap();
    let of = |letter: char| {
        text.lines()
            .filter(|line| line.starts_with(letter))
            .collect::<Vec<_>>()
    };
    assert_eq!((of('a'), of('b')), (vec!["a1", "a2"], vec!["b1", "b2"]));
}

#[test]
fn a_failure_is_one_line_with_the_path_and_a_remedy() {
    let place = Place::new();
    let dir = place.text("spool");
    let holder = place.ship("spool", &place.file("in"), &place.file("out"), &[]);
    until("the first one to start", || {
        Path::new(&format!("{dir}.position")).exists()
    });
    let missing = place.text("no/such/directory/out");
    let no_file = format!("file:{missing}");
    let no_address = "tcp:192.0.2.1:1";
    for (name, from, to, said) in [
        (
            "spool",
            "-",
            "-",
            vec![dir.as_str(), "in use by process", "choose another --dir"],
        ),
        ("other", "-", &no_file, vec![&missing, "permissions"]),
        (
            "third",
            no_address,
            "-",
            vec!["192.0.2.1:1", "free address"],
        ),
    ] {
        let (ended_well, output, message) = place.ship(name, from, to, &[]).end();
        assert!(!ended_well && output.is_empty());
        assert_eq!(message.lines().count(), 1, "{message}");
        for word in said {
            assert!(message.contains(word), "{word:?} in {message}");
        }
    }
    drop(holder);
}
