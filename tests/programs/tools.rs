//! git, rsync, tar, cp and SQLite.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::common::{Served, fill, noise};
use crate::{bash, both_ways, python};

both_ways!(
    git_keeps_a_repository,
    rsync_finds_no_difference_there_and_back,
    tar_keeps_links_and_holes,
    copies_are_whole,
    copies_of_stored_files_take_no_space,
    databases_survive_writers_at_the_same_time,
);

fn git_keeps_a_repository(passthrough: bool) {
    let served = Served::start(passthrough);
    let script = r#"
        git init -q -b main origin && cd origin
        git config user.name test && git config user.email test@localhost
        for round in 1 2 3; do
            for number in {1..60}; do echo "$round $number" > "file-$number"; done
            head -c 3000000 /dev/urandom > large
            git add -A && git commit -q -m "round $round"
        done
        cd .. && git clone -q origin copy && git clone -q --no-local origin packed && cd copy
        git config user.name test && git config user.email test@localhost
        git checkout -q -b other HEAD~1 && echo new > new && git add new && git commit -q -m new
        git rebase -q main && git rm -q file-1 && git mv file-2 moved && git commit -q -m moved
        git push -q origin other
        git gc -q --aggressive --prune=now && git fsck --full --strict
        cd ../origin && git merge -q other && git gc -q && git fsck --full --strict && git status --porcelain
        test -e moved && test ! -e file-1 && test "$(cat moved)" = "3 2"
    "#;
    bash(script, &served.work(), &[]);
}

/// Beside [`fill`]: extended attributes and a file with holes.
fn fill_more(content: &Path) {
    fill(content);
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(content.join("text"), "user.kept", b"value", none).unwrap();
    rustix::fs::setxattr(content.join("deep"), "trusted.kept", b"another", none).unwrap();
    let sparse = fs::File::create(content.join("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 2 << 20).unwrap();
    std::os::unix::fs::chown(content.join("text"), Some(33), Some(34)).unwrap();
    std::os::unix::fs::lchown(content.join("link"), Some(33), Some(34)).unwrap();
    fs::set_permissions(content.join("small"), std::os::unix::fs::PermissionsExt::from_mode(0o4751)).unwrap();
}

fn rsync_finds_no_difference_there_and_back(passthrough: bool) {
    let served = Served::start_with(passthrough, fill_more);
    let script = r#"
        rsync -aHAX --sparse --checksum "$1/" there/
        rsync -aHAX --sparse --checksum there/ "$2/"
        differences=$(rsync -aHAXni --checksum --delete "$1/" there/; rsync -aHAXni --checksum --delete "$1/" "$2/")
        test -z "$differences" || { echo "$differences"; exit 1; }
        # What is changed in place is found and repaired.
        echo more >> there/text && chmod 600 there/small && rm there/deep/7
        rsync -aHAX --inplace --checksum "$1/" there/
        test -z "$(rsync -aHAXni --checksum --delete "$1/" there/)"
    "#;
    let (content, back) = (served.directory().join("content"), served.directory().join("back"));
    bash(script, &served.work(), &[&content, &back]);
}

fn tar_keeps_links_and_holes(passthrough: bool) {
    let served = Served::start_with(passthrough, fill_more);
    let script = r#"
        tar -C "$1" --sparse --xattrs --xattrs-include='*' -cf first.tar .
        mkdir there && tar -C there --xattrs --xattrs-include='*' -xpf first.tar
        tar -C there --sparse --xattrs --xattrs-include='*' -cf second.tar .
        mkdir "$2" && tar -C "$2" --xattrs --xattrs-include='*' -xpf second.tar
        test -z "$(rsync -aHAXni --checksum --delete "$1/" "$2/")"
    "#;
    let (content, back) = (served.directory().join("content"), served.directory().join("back"));
    bash(script, &served.work(), &[&content, &back]);
    let there = served.work().join("there");
    let of = |path: &str| fs::metadata(there.join(path)).unwrap();
    assert_eq!((of("small").ino(), of("small").nlink()), (of("deep/small").ino(), 2));
    let sparse = of("sparse");
    assert_eq!(sparse.size(), 5 << 20);
    assert!(sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());
}

fn copies_are_whole(passthrough: bool) {
    let served = Served::start_with(passthrough, fill_more);
    // A file of the store, a file that was written, and one with holes.
    let script = r#"
        cp --reflink=auto "$1/deep/er/large" one && cmp one "$1/deep/er/large"
        cp --reflink=auto one two && cmp one two
        cp --sparse=always "$1/sparse" three && cmp three "$1/sparse"
        cp -a "$1" all && diff -r "$1" all
    "#;
    bash(script, &served.work(), &[&served.root().join("copy")]);
    let work = served.work();
    fs::write(work.join("source"), noise(700_000)).unwrap();
    let source = fs::File::open(work.join("source")).unwrap();
    let target = fs::File::create(work.join("target")).unwrap();
    let (mut from, mut to) = (1000, 500);
    let mut left = 600_000;
    while left > 0 {
        let count =
            rustix::fs::copy_file_range(&source, Some(&mut from), &target, Some(&mut to), left).unwrap();
        assert!(count > 0);
        left -= count;
    }
    let (source, target) = (fs::read(work.join("source")).unwrap(), fs::read(work.join("target")).unwrap());
    assert!(target.len() == 600_500 && target[..500] == [0; 500] && target[500..] == source[1000..601_000]);
}

fn copies_of_stored_files_take_no_space(passthrough: bool) {
    let mut served = Served::start(passthrough);
    let script = "head -c 3000000 /dev/urandom > plain; seq 300000 > chunks; echo small > chunk";
    bash(script, &served.work(), &[]);
    // What is open is copied by a freeze, and stays a file of its own.
    served.tell("closed");
    served.freeze("kept", || ());
    let script = "for file in plain chunks chunk; do cp --reflink=auto -p $file $file.copy; cmp $file $file.copy; done";
    bash(script, &served.work(), &[]);
    // What is not needed any more goes with a commit after the close, for which nobody waits.
    let uppers = served.directory().join("live/upper");
    let script =
        r#"for try in {1..200}; do sync .; [[ -n $(find "$1" -type f) ]] || exit 0; sleep 0.1; done; exit 1"#;
    bash(script, &served.work(), &[&uppers]);
    bash("for file in plain chunks chunk; do cmp $file $file.copy; done", &served.work(), &[]);
}

fn databases_survive_writers_at_the_same_time(passthrough: bool) {
    let served = Served::start(passthrough);
    let script = r"
import sqlite3, sys, os
for mode in ('wal', 'delete', 'truncate', 'persist'):
    path = mode + '.sqlite'
    database = sqlite3.connect(path, timeout=60, isolation_level=None)
    database.execute('PRAGMA journal_mode = ' + mode)
    database.execute('CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER)')
    database.executemany('INSERT INTO account VALUES (?, 100)', [(id,) for id in range(50)])
    database.close()
    children = []
    for child in range(3):
        process = os.fork()
        if process == 0:
            try:
                database = sqlite3.connect(path, timeout=60, isolation_level=None)
                for turn in range(40):
                    database.execute('BEGIN IMMEDIATE')
                    one, other = (child * 7 + turn) % 50, (turn * 11 + 3) % 50
                    database.execute('UPDATE account SET balance = balance - 1 WHERE id = ?', (one,))
                    database.execute('UPDATE account SET balance = balance + 1 WHERE id = ?', (other,))
                    database.execute('COMMIT' if turn % 5 else 'ROLLBACK')
                os._exit(0)
            finally:
                os._exit(1)
        children.append(process)
    for process in children:
        assert os.waitpid(process, 0)[1] == 0, mode
    database = sqlite3.connect(path)
    assert database.execute('PRAGMA integrity_check').fetchone() == ('ok',), mode
    assert database.execute('SELECT sum(balance) FROM account').fetchone() == (5000,), mode
";
    python(script, &served.work(), &[]);
}
