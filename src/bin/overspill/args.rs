//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Ships lines through a disk-spilling channel: an outage fills the disk, not the memory, and loses nothing.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Moves lines from a source to a destination, through a channel on disk.
    #[command(after_long_help = SHIP_HELP)]
    Ship(Ship),
    /// Shows it all in half a minute: real lines, an outage, a spill, kill -9 on both sides, a proof.
    #[command(after_long_help = DEMO_HELP)]
    Demo(Demo),
}

const SHIP_HELP: &str = "\
WHAT A DESTINATION PROMISES
  -          a line counts as delivered when the pipe or the terminal has taken it
  file:PATH  when the operating system has it; after a kill -9 nothing is missing and nothing is
             there twice (overspill must be the only one who writes the file)
  tcp:ADDR   with --framing lines: plain TCP has no receipts. A line counts when this machine's
             network stack has taken it and the connection still stood afterwards. What both
             machines had in their socket buffers when a connection broke is lost; the last batch
             is sent again, so some of its lines may arrive twice.
             with --framing ack: when the receiver, another `overspill ship --from tcp:.. --framing
             ack`, has confirmed it. It drops what it already has: nothing lost, nothing twice.
  http://..  when a POST of newline-delimited lines was answered with 2xx; a POST whose answer was
             lost is sent again. A line that is refused for good is set aside after --max-attempts.

A line leaves the channel when the destination has it. What the destination can't take now comes again,
in order. A stopped or killed shipper goes on where it was: the position is kept beside the directory, in
DIR.position. A followed file is looked at five times a second.
SIGINT or SIGTERM drains, saves and exits with 0; a second one exits at once.

EXAMPLE
  overspill ship --dir /var/spool/app --from file:/var/log/app.log --to tcp:logs.example:4242 --framing ack
  overspill ship --dir /var/spool/in --from tcp:0.0.0.0:4242 --to file:/srv/logs/app.log --framing ack";

const DEMO_HELP: &str = "\
EXAMPLE
  overspill demo --input /var/log/syslog --lines 100000";

#[derive(Args, Debug)]
pub(crate) struct Ship {
    /// The channel's directory; created when missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// `-` (stdin), `file:PATH` (follows it through rotations) or `tcp:ADDR` (listens for lines).
    #[arg(long, value_name = "SRC", value_parser = Endpoint::parse_source)]
    pub(crate) from: Endpoint,
    /// `-` (stdout), `file:PATH` (appends), `tcp:ADDR` (connects, and reconnects) or `http://HOST/PATH` (posts).
    #[arg(long, value_name = "DST", value_parser = Endpoint::parse_destination)]
    pub(crate) to: Endpoint,
    /// Where the backlog is kept: `sled`, or `log`, which is faster and survives power cuts. A directory may change.
    #[arg(long, value_enum, default_value_t = Store::Sled)]
    pub(crate) store: Store,
    /// What an accepted line survives: `spill` (a clean stop; fastest), `process` (also a kill -9), and with
    /// `--store log` `interval=500ms` (also a power cut, up to so much) or `sync` (also a power cut).
    #[arg(long, default_value = "process", value_parser = parse_durability)]
    pub(crate) durability: Durability,
    /// How lines are written to disk: `none`, or `lz4`, which takes less of it. A directory may change.
    #[arg(long, value_enum, default_value_t = Compression::None)]
    pub(crate) compression: Compression,
    /// Lines that wait in memory.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) memory_items: usize,
    /// What the directory may occupy, such as 10GiB [default: no limit].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) disk_max: Option<u64>,
    /// What happens to new lines while the directory is full; `reject` ends a `-` or `file:` source
    /// with an error, and a `tcp:` connection.
    #[arg(long, value_enum, default_value_t = WhenFull::Block)]
    pub(crate) when_full: WhenFull,
    /// How lines travel over `tcp:`, on both sides: newline-delimited, or in confirmed batches.
    #[arg(long, value_enum, default_value_t = Framing::Lines)]
    pub(crate) framing: Framing,
    /// How often a line is sent to an `http:` destination that refuses it, before it is set aside as a dead letter
    /// [default: no limit]. An outage is no refusal.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_attempts: Option<u32>,
    /// How long a stop waits for the destination before it saves the rest.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub(crate) drain: Duration,
    /// Says nothing but errors.
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Writes the figures as JSON to this file, five times a second.
    #[arg(long, value_name = "PATH", hide = true)]
    pub(crate) stats_file: Option<PathBuf>,
    /// Stops as by SIGTERM when stdin ends: a child process then never outlives its parent.
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// The log file to take lines from [default: the largest readable one of this machine].
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// How many lines to ship.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(100..=99_999_999))]
    pub(crate) lines: u32,
    /// Leaves the demo's directory in place, to look at.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// One side of a `ship`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Standard,
    File(PathBuf),
    Tcp(String),
    /// A whole URL.
    Http(String),
}

impl Endpoint {
    fn parse_source(text: &str) -> Result<Self, String> {
        match Self::parse(text, "use -, file:PATH or tcp:ADDR")? {
            Self::Http(_) => {
                Err("http: is a destination only; use -, file:PATH or tcp:ADDR".into())
            }
            source => Ok(source),
        }
    }

    fn parse_destination(text: &str) -> Result<Self, String> {
        Self::parse(text, "use -, file:PATH, tcp:ADDR or http://HOST/PATH")
    }

    fn parse(text: &str, help: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "-" => Ok(Self::Standard),
            Some(("file", "")) => Err("a path is missing: file:PATH".into()),
            Some(("file", path)) => Ok(Self::File(PathBuf::from(path))),
            Some(("tcp", address)) => match address.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                    Ok(Self::Tcp(address.to_owned()))
                }
                _ => Err("an address is HOST:PORT, such as tcp:127.0.0.1:4242".into()),
            },
            Some(("http", rest)) => match rest.strip_prefix("//") {
                Some(host) if !host.starts_with(['/', ':']) && !host.is_empty() => {
                    Ok(Self::Http(text.to_owned()))
                }
                _ => Err("a host is missing: http://HOST/PATH".into()),
            },
            Some((scheme @ ("udp" | "unix" | "https"), _)) => Err(format!(
                "{scheme}: is not supported by this version; {help}"
            )),
            _ => Err(help.to_owned()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("-"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Http(url) => f.write_str(url),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    Sled,
    Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    None,
    Lz4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    Spill,
    Process,
    Interval(Duration),
    Sync,
}

fn parse_durability(text: &str) -> Result<Durability, String> {
    match text {
        "process" => Ok(Durability::Process),
        "spill" => Ok(Durability::Spill),
        "sync" => Ok(Durability::Sync),
        _ => match text.strip_prefix("interval=") {
            Some(interval) => parse_duration(interval).map(Durability::Interval),
            None => Err("use spill, process, interval=TIME or sync".into()),
        },
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhenFull {
    Block,
    Reject,
    DropOldest,
    DropNewest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Framing {
    Lines,
    Ack,
}

/// Splits `10GiB` into 10 and `GiB`.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

fn parse_size(text: &str) -> Result<u64, String> {
    let help = || "use bytes, or a number with KiB, MiB, GiB, TiB, kB, MB, GB or TB".to_owned();
    let (number, unit) = split_unit(text).ok_or_else(help)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(help()),
    };
    number
        .checked_mul(factor)
        .ok_or_else(|| "that is more than a file system can hold".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let help = || "use a number with ms, s or m, such as 5s".to_owned();
    let (number, unit) = split_unit(text).ok_or_else(help)?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        // A year is long enough, and `Instant` can still be added to.
        "m" if number <= 525_600 => Ok(Duration::from_secs(number * 60)),
        _ => Err(help()),
    }
    .and_then(|time| {
        if time.as_secs() <= 31_536_000 {
            Ok(time)
        } else {
            Err(help())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn ship(extra: &[&str]) -> Result<Ship, String> {
        let mut words = vec!["overspill", "ship", "--dir", "spool"];
        words.extend(extra);
        match Arguments::try_parse_from(words) {
            Ok(Arguments {
                command: Command::Ship(ship),
            }) => Ok(ship),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("4KiB", 4096),
            ("10GiB", 10 << 30),
            ("10 GiB", 10 << 30),
            ("2TB", 2_000_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "GiB",
            "10gib",
            "-1",
            "1.5GiB",
            "99999999TiB",
            "99999999999999999999",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_with_their_units() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for text in [
            "5",
            "",
            "s",
            "5h",
            "18446744073709551615s",
            "999999999999999m",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sources_and_destinations_are_read() {
        let ship = ship(&["--from", "file:/var/log/a:b.log", "--to", "tcp:[::1]:4242"]).unwrap();
        assert_eq!(ship.from, Endpoint::File("/var/log/a:b.log".into()));
        assert_eq!(ship.to, Endpoint::Tcp("[::1]:4242".into()));
        assert_eq!(ship.durability, Durability::Process);
        assert_eq!(ship.drain, Duration::from_secs(5));
        assert_eq!(Endpoint::parse_source("-"), Ok(Endpoint::Standard));
        let url = "http://logs.example:8080/in?key=1";
        let to = Endpoint::parse_destination(url).unwrap();
        assert_eq!(
            (&to, to.to_string().as_str()),
            (&Endpoint::Http(url.into()), url)
        );
    }

    #[test]
    fn what_this_version_lacks_is_refused_with_a_reason() {
        for (words, said) in [
            (
                ["--from", "udp:127.0.0.1:1", "--to", "-"].as_slice(),
                "not supported by this version",
            ),
            (
                &["--from", "-", "--to", "https://host/"],
                "not supported by this version",
            ),
            (
                &["--from", "http://host/", "--to", "-"],
                "a destination only",
            ),
            (&["--from", "-", "--to", "http:///path"], "host is missing"),
            (
                &["--from", "-", "--to", "-", "--max-attempts", "0"],
                "max-attempts",
            ),
            (&["--from", "-", "--to", "tcp:host"], "HOST:PORT"),
            (&["--from", "-", "--to", "tcp::1"], "HOST:PORT"),
            (&["--from", "-", "--to", "file:"], "path is missing"),
            (&["--from", "-", "--to", "nowhere"], "file:PATH"),
            (
                &["--from", "-", "--to", "-", "--durability", "often"],
                "interval=TIME",
            ),
            (
                &["--from", "-", "--to", "-", "--durability", "interval=soon"],
                "invalid value",
            ),
            (&["--from", "-", "--to", "-", "--store", "tape"], "log"),
        ] {
            let error = ship(words).expect_err("must be refused");
            assert!(error.contains(said), "{words:?}: {error}");
        }
    }
}
