//! `--to http://..` against a server that answers as a test wants.

use crate::processes::{Place, figure, until};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Answers each POST with what `judge` makes of its body.
struct Server {
    address: String,
    taken: Arc<Mutex<String>>,
}

impl Server {
    fn start(mut judge: impl FnMut(&str) -> u16 + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let taken = Arc::<Mutex<String>>::default();
        let pile = Arc::clone(&taken);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                while let Some(body) = read_post(&mut stream) {
                    let status = judge(&body);
                    if status == 200 {
                        pile.lock().unwrap().push_str(&body);
                    }
                    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\nhello");
                    stream.get_mut().write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        Self { address, taken }
    }

    fn url(&self) -> String {
        format!("http://{}/in", self.address)
    }

    fn taken(&self) -> String {
        self.taken.lock().unwrap().clone()
    }
}

/// The body of the next request; `None` at the end of the connection.
fn read_post(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut len = 0;
    let mut line = String::new();
    let mut is_post = false;
    while stream.read_line(&mut line).ok()? > 0 && line != "\r\n" {
        is_post |= line.starts_with("POST /in HTTP/1.1");
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            len = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).ok()?;
    is_post.then(|| String::from_utf8(body).unwrap())
}

#[test]
fn refused_lines_become_dead_letters_and_the_others_arrive_in_order() {
    let place = Place::new();
    place.write(0..2000);
    let bad = ["0000017 ", "0000018 ", "0001500 "];
    let is_bad = move |line: &str| bad.iter().any(|bad| line.starts_with(bad));
    let server = Server::start(move |body| if body.lines().any(is_bad) { 422 } else { 200 });
    let stats = place.text("stats");
    let from = place.file("in");
    let options = ["--max-attempts", "2", "--stats-file", &stats];
    let ship = place.ship("spool", &from, &server.url(), &options);
    until("the last line", || server.taken().contains("0001999 "));
    until("three dead letters", || {
        figure(&stats, "dead_lettered") == Some(3)
    });
    let message = ship.stop();
    assert_eq!(
        message.matches("is set aside as a dead letter").count(),
        3,
        "{message}"
    );
    assert!(!message.contains("is not delivered"), "{message}");
    let log = std::fs::read_to_string(place.path("in")).unwrap();
    let expected: String = log
        .split_inclusive('\n')
        .filter(|line| !is_bad(line))
        .collect();
    assert!(server.taken() == expected, "{}", server.taken());

    // A restart finds no gap where they were.
    place.write(2000..2001);
    let _ship = place.ship("spool", &from, &server.url(), &[]);
    until("a new line", || server.taken().contains("0002000 "));
    assert_eq!(server.taken().lines().count(), 1998);
}

#[test]
fn an_outage_makes_no_dead_letter() {
    let place = Place::new();
    place.write(0..2000);
    let mut answers = [500, 503, 429, 408, 401, 404, 302].into_iter();
    let server = Server::start(move |_| answers.next().unwrap_or(200));
    let stats = place.text("stats");
    let options = ["--max-attempts", "1", "--stats-file", &stats];
    let _ship = place.ship("spool", &place.file("in"), &server.url(), &options);
    until("the last line", || server.taken().contains("0001999 "));
    let log = std::fs::read_to_string(place.path("in")).unwrap();
    assert!(server.taken() == log, "{}", server.taken());
    until("the acknowledgements", || {
        figure(&stats, "acknowledged") == Some(2001)
    });
    assert_eq!(figure(&stats, "dead_lettered"), Some(0));
}
