//! Rounds of child processes, interleaved: every row runs once before any runs again.

use crate::args::Args;
use crate::job::{Job, Outcome, Step};
use crate::table::{Line, Table};
use crate::workloads::{self, Row, Run, Section, WORKLOADS};
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// What ends a run that would never end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Filling a disk may take longer, and so may reading all of it.
const PATIENCE_WITH_DISK: Duration = Duration::from_secs(600);
const OUT_OF_PATIENCE: i32 = 3;
/// Where less is written it doesn't matter, and where more is, most of the run is warm by itself.
const WARM_BYTES: RangeInclusive<u64> = 16 << 20..=2 << 30;

/// Does the one job that the parent names, and says on standard output how it went.
pub(crate) fn be_a_child(args: &Args, job: &str) {
    let job: Job = serde_json::from_str(job).expect("a job");
    let patience = patience(job.step);
    thread::spawn(move || {
        thread::sleep(patience);
        std::process::exit(OUT_OF_PATIENCE);
    });
    let sections = WORKLOADS.map(|workload| workloads::sections(workload, args));
    let row = sections
        .iter()
        .flatten()
        .filter(|section| section.key == job.section)
        .flat_map(|section| &section.rows)
        .find(|row| row.name == job.row && row.verb == job.verb);
    if let Some(Row {
        run: Run::Does(work),
        ..
    }) = row
    {
        let outcome = work(&job);
        println!("{}", serde_json::to_string(&outcome).expect("an outcome"));
    }
    // A peer's threads may be anywhere: nothing of them is needed any more.
    std::process::exit(0);
}

fn patience(step: Step) -> Duration {
    if matches!(step, Step::Write | Step::Read) {
        PATIENCE_WITH_DISK
    } else {
        PATIENCE
    }
}

/// All that was asked for.
pub(crate) fn run(args: &Args) -> io::Result<Vec<Table>> {
    let root = tempfile::Builder::new()
        .prefix("peers-")
        .tempdir_in(&args.dir)?;
    let mut tables = Vec::new();
    for workload in WORKLOADS {
        if args.workload == "all" || args.workload == workload {
            for section in workloads::sections(workload, args) {
                tables.extend(run_section(args, section, root.path())?);
            }
        }
    }
    Ok(tables)
}

/// The outcomes of one row in one step, or why there are none.
type Runs = Result<Vec<Outcome>, String>;

fn run_section(args: &Args, mut section: Section, root: &Path) -> io::Result<Vec<Table>> {
    if let Some(only) = &args.only {
        section.rows.retain(|row| row.name.contains(only.as_str()));
    }
    let mut runs: Vec<Vec<Runs>> = section
        .rows
        .iter()
        .map(|row| match row.run {
            Run::Does(_) => section.steps.iter().map(|_| Ok(Vec::new())).collect(),
            Run::Cannot(why) => section.steps.iter().map(|_| Err(why.to_owned())).collect(),
        })
        .collect();
    for round in 1..=args.rounds {
        eprintln!("{}: round {round} of {}", section.title, args.rounds);
        for (at, (row, runs)) in section.rows.iter().zip(&mut runs).enumerate() {
            let dir = root.join(at.to_string());
            run_row(&section, row, runs, &dir, round)?;
            // What is opened again and again is written only once.
            if !section.steps.contains(&Step::Open) || round == args.rounds {
                remove(&dir)?;
            }
        }
    }
    Ok(tables(&section, &runs))
}

fn run_row(
    section: &Section,
    row: &Row,
    runs: &mut [Runs],
    dir: &Path,
    round: u64,
) -> io::Result<()> {
    for (step, runs) in section.steps.iter().zip(runs) {
        let Ok(so_far) = runs else {
            return Ok(());
        };
        if *step == Step::Write && round > 1 && section.steps.contains(&Step::Open) {
            continue;
        }
        let (items, item_bytes) = row.work(section);
        let job = Job {
            section: section.key.to_owned(),
            row: row.name.clone(),
            verb: row.verb,
            step: *step,
            items,
            item_bytes,
            dir: dir.to_owned(),
        };
        if warms_up(section, &job) {
            let _ = run_child(&job)?;
            remove(dir)?;
        }
        match run_child(&job)? {
            Ok(outcome) => so_far.push(outcome),
            Err(trouble) => *runs = Err(trouble),
        }
    }
    Ok(())
}

/// A virtual machine gives memory back to its host that it hasn't used for a while, and a page from there costs several times
/// what it costs to write it: whoever came first would pay for the others. So what writes much is run twice in a row, and the second run
/// counts.
fn warms_up(section: &Section, job: &Job) -> bool {
    let writes = matches!(job.step, Step::Write | Step::Whole);
    let bytes = job.items * job.item_bytes as u64;
    writes && !section.steps.contains(&Step::Open) && WARM_BYTES.contains(&bytes)
}

fn run_child(job: &Job) -> io::Result<Result<Outcome, String>> {
    // Nobody waits for what somebody else has left to the kernel.
    rustix::fs::sync();
    // The same arguments, so that it has the same rows.
    let output = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg("--child")
        .arg(serde_json::to_string(job)?)
        .stderr(Stdio::inherit())
        .output()?;
    let outcome = output.stdout.split(|byte| *byte == b'\n').rev().nth(1);
    Ok(match (output.status.code(), outcome) {
        (Some(0), Some(outcome)) => Ok(serde_json::from_slice(outcome)?),
        (Some(OUT_OF_PATIENCE), _) => {
            Err(format!("not done after {} s", patience(job.step).as_secs()))
        }
        (status, _) => Err(format!("fails ({status:?})")),
    })
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// One table for each step that is a question.
fn tables(section: &Section, runs: &[Vec<Runs>]) -> Vec<Table> {
    let steps = section.steps.iter().enumerate();
    let table = |(at, step): (usize, &Step)| {
        let lines = section.rows.iter().zip(runs).filter_map(|(row, runs)| {
            let runs = runs.get(at)?;
            let (_, item_bytes) = row.work(section);
            Some(Line::new(row, item_bytes, runs.as_ref().map(Vec::as_slice)))
        });
        let title = match step {
            Step::Write => format!("{}: write", section.title),
            Step::Read => format!("{}: read", section.title),
            _ => section.title.clone(),
        };
        Table {
            title,
            step: *step,
            lines: lines.collect(),
        }
    };
    let asked = |step: &Step| *step != Step::Write || !section.steps.contains(&Step::Open);
    steps.filter(|(_, step)| asked(step)).map(table).collect()
}
