//! What is killed at random moments.

use crate::processes::{ACK, Place, a_moment, figure, free_address, rounds, until};
use std::fs;

#[test]
fn no_line_is_lost_or_repeated_when_either_side_is_killed_at_random_moments() {
    // Where the sender's channel loses its memory with it, the file has the lines, and the receiver knows their places.
    for durability in ["process", "spill"] {
        let place = Place::new();
        let tcp = format!("tcp:{}", free_address());
        let (log, out) = (place.file("in"), place.file("out"));
        let options = ["--framing", "ack", "--durability", durability];
        let sender = || place.ship("sending", &log, &tcp, &options);
        let receiver = || place.ship("receiving", &tcp, &out, &ACK);

        let (mut one, mut other) = (sender(), receiver());
        // A file that is renamed before the shipper has ever seen it is nobody's to ship.
        let (mut written, mut rotated) = (1, 0);
        place.write(0..written);
        until("the first line", || place.lines("out") >= written);
        for round in 0..rounds() {
            place.write_more(&mut written, 3000);
            if round % 7 == 3 {
                until("a line of this file", || place.lines("out") > rotated);
                rotated = written;
                fs::rename(place.path("in"), place.path(&format!("in.{round}"))).unwrap();
            }
            a_moment();
            if fastrand::bool() {
                one.kill();
                a_moment();
                one = sender();
            } else {
                other.kill();
                a_moment();
                other = receiver();
            }
        }
        until("every line", || place.lines("out") >= written);
        gather(&place);
        place.assert_same("all", "out");
        one.stop();
        other.stop();
        place.assert_same("all", "out");
    }
}

/// Puts the parts of a rotated log together.
fn gather(place: &Place) {
    let rotated = (0..rounds()).map(|round| place.path(&format!("in.{round}")));
    let parts = rotated.chain([place.path("in")]);
    let all: Vec<u8> = parts
        .filter_map(|part| fs::read(part).ok())
        .flatten()
        .collect();
    fs::write(place.path("all"), all).unwrap();
}

#[test]
fn a_shipper_between_two_others_forgets_nothing_when_it_is_killed() {
    let place = Place::new();
    let (first, second) = (free_address(), free_address());
    let (first, second) = (format!("tcp:{first}"), format!("tcp:{second}"));
    let (log, out) = (place.file("in"), place.file("out"));
    let start = || place.ship("between", &first, &second, &ACK);
    let _sender = place.ship("sending", &log, &first, &ACK);
    let _receiver = place.ship("receiving", &second, &out, &ACK);
    let mut written = 0;
    let mut between = start();
    for _ in 0..2 * rounds() {
        place.write_more(&mut written, 3000);
        let least = place.lines("out") + 1;
        until("some of it", || place.lines("out") >= least);
        a_moment();
        between.kill();
        between = start();
    }
    until("every line", || place.lines("out") >= written);
    place.assert_same("in", "out");
    between.stop();
    place.assert_same("in", "out");
}

#[test]
fn a_file_destination_has_every_line_once_whatever_is_killed() {
    for (store, durability) in [
        ("sled", "process"),
        ("sled", "spill"),
        ("log", "spill"),
        ("log", "interval=5ms"),
        ("log", "sync"),
    ] {
        let place = Place::new();
        let (log, out) = (place.file("in"), place.file("out"));
        let options = ["--store", store, "--durability", durability];
        let start = || place.ship("spool", &log, &out, &options);
        let mut written = 0;
        for _ in 0..rounds() {
            let ship = start();
            place.write_more(&mut written, 5000);
            a_moment();
            ship.kill();
        }
        let ship = start();
        until("every line", || place.lines("out") >= written);
        ship.stop();
        place.assert_same("in", "out");
    }
}

#[test]
fn lines_that_a_kill_takes_from_memory_are_read_from_the_file_again() {
    let place = Place::new();
    let (log, tcp) = (place.file("in"), format!("tcp:{}", free_address()));
    place.write(0..500);
    let stats = place.text("stats");
    let options = ["--framing", "ack", "--durability", "spill"];
    let watched = [&options[..], &["--stats-file", &stats]].concat();
    let first = place.ship("spool", &log, &tcp, &watched);
    until("all lines in memory", || {
        // Five hundred lines and the mark that the run begins with.
        figure(&stats, "accepted") == Some(501)
    });
    first.kill();

    let out = place.file("out");
    let _second = place.ship("spool", &log, &tcp, &options);
    let _receiver = place.ship("receiving", &tcp, &out, &ACK);
    until("every line", || place.lines("out") >= 500);
    place.assert_same("in", "out");
}
