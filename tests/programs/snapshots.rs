//! Snapshots of what processes are writing.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::both_ways;
use crate::common::Served;

both_ways!(a_snapshot_beside_writers_has_no_later_write_without_an_earlier_one);

/// Each process writes, in this order and each with fsync: a file that is renamed into place, a line in a log, a line
/// in a second log. The number in a later one is never greater than in an earlier one.
const WRITER: &str = r"
import os, sys
me = sys.argv[1]
os.mkdir(me)
print('ready', flush=True)
def put(path, text, flags):
    file = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    os.write(file, text); os.fsync(file); os.close(file)
number = 0
while not os.path.exists('stop'):
    number += 1
    put(me + '/new', b'%d\n' % number * 3000, os.O_TRUNC)
    os.rename(me + '/new', me + '/file-%d' % (number % 5))
    put(me + '/first', b'%d\n' % number, os.O_APPEND)
    put(me + '/second', b'%d\n' % number, os.O_APPEND)
print(number, flush=True)
";

fn last_number(text: &str) -> u64 {
    assert!(text.is_empty() || text.ends_with('\n'), "a line is torn");
    let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "a line is missing");
    numbers.len() as u64
}

fn a_snapshot_beside_writers_has_no_later_write_without_an_earlier_one(passthrough: bool) {
    let mut served = Served::start(passthrough);
    let work = served.work();
    let mut writers: Vec<_> = (0..3)
        .map(|writer| {
            Command::new("python3")
                .args(["-c", WRITER, &format!("writer-{writer}")])
                .current_dir(&work)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut outputs: Vec<_> =
        writers.iter_mut().map(|writer| BufReader::new(writer.stdout.take().unwrap())).collect();
    for output in &mut outputs {
        output.read_line(&mut String::new()).unwrap();
    }
    for snapshot in 0..8 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        served.freeze(&format!("snapshot-{snapshot}"), || ());
    }
    fs::write(work.join("stop"), "").unwrap();
    for (output, writer) in outputs.iter_mut().zip(&mut writers) {
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert!(writer.wait().unwrap().success());
    }
    let mut states = HashSet::new();
    for snapshot in 0..8 {
        for writer in 0..3 {
            let directory = served.root().join(format!("snapshot-{snapshot}/writer-{writer}"));
            let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
            let (first, second) = (last_number(&read("first")), last_number(&read("second")));
            let newest = (0..5).map(|slot| {
                let text = read(&format!("file-{slot}"));
                let number = text.lines().next().map_or(0, |line| line.parse().unwrap());
                assert_eq!(
                    text,
                    format!("{number}\n").repeat(if number > 0 { 3000 } else { 0 }),
                    "a whole file"
                );
                number
            });
            let newest: u64 = newest.max().unwrap();
            assert!(newest >= first && first >= second && newest <= second + 1, "{newest} {first} {second}");
            states.insert((writer, newest, first, second));
        }
    }
    assert!(states.len() > 8, "they wrote meanwhile: {states:?}");
}
